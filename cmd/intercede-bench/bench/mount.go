package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/intercede/intercede/cmd/intercede-bench/caller"
	"github.com/intercede/intercede/cmd/intercede-bench/disk"
	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/daemon"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/internal/wire"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// mountSlowness divides the number of calls: a mount takes so much longer than another.
const mountSlowness = 20

// Where the program finds and mounts the disk, in the root filesystem: without the plugin mknod a node in /dev, which
// is the container's own, could be made but not opened.
const (
	diskNode = "/tmp/intercede-bench-disk"
	diskDir  = "/tmp/intercede-bench-mnt"
)

// mountCall mounts the disk of that minor number.
func mountCall(minor uint32) (caller.Call, error) {
	err := unix.Mknod(diskNode, unix.S_IFBLK|0o600, int(unix.Mkdev(disk.Major, minor)))
	if err != nil && !errors.Is(err, unix.EPERM) { // rows of other calls may not
		return caller.Call{}, fmt.Errorf("mknod %s: %w", diskNode, err)
	}
	if err := os.MkdirAll(diskDir, 0o755); err != nil {
		return caller.Call{}, err
	}
	return caller.Mount(diskNode, diskDir, "ext4", 0)
}

// openMount adds the rows of a shifted mount of ext4: by a broker whose config lets the container have the disk, and by
// root of the host.
func (b *bench) openMount(ctx context.Context, pluginDir string, log zerolog.Logger) error {
	const name = "mount of ext4"
	for _, plugin := range []string{mknod, mount} {
		if _, err := os.Stat(filepath.Join(pluginDir, wire.BinaryPrefix+plugin)); errors.Is(err, fs.ErrNotExist) {
			b.leaveOut("plugin "+name, fmt.Sprintf("there is no %s%s in %s", wire.BinaryPrefix, plugin, pluginDir))
			return nil
		}
	}
	dir, err := os.MkdirTemp("/var/tmp", "intercede-bench-")
	if err != nil {
		return err
	}
	b.cleanUp(func() { os.RemoveAll(dir) })
	made, err := disk.New(ctx, dir)
	if err != nil {
		b.leaveOut("plugin "+name, err.Error())
		return nil
	}
	b.cleanUp(made.Close)
	b.disk = made
	setup, err := mountSetup(ctx, dir, pluginDir, made)
	if err != nil {
		return err
	}
	engine, err := daemon.Start(ctx, setup, broker.State{}, log)
	if err != nil {
		return err
	}
	b.supervise(engine)
	r := &row{
		key: mount, name: "plugin " + name + ", shifted", call: mount, manifests: setup.Manifests, supervisor: engine,
		devices: []string{made.Rule()}, slowness: mountSlowness,
	}
	engine.Observe(r.share.add)
	b.add(r)
	if b.options.Exec != nil {
		b.add(&row{
			key: "exec-" + mount, name: "a program executed: " + name, call: mount, manifests: notifying("mount", "mknod", "mknodat"),
			supervisor: execute{b.options.Exec}, devices: r.devices, slowness: mountSlowness * 5,
		})
	}
	b.add(&row{key: "native-" + mount, name: "root of the host: " + name, call: mount, slowness: mountSlowness})
	return nil
}

func mountSetup(ctx context.Context, dir, pluginDir string, d disk.Disk) (*daemon.Setup, error) {
	path := filepath.Join(dir, "config.toml")
	text := fmt.Sprintf("[broker]\nplugin_dir = %q\nrate = 0\n[plugins.mknod]\ngrant = \"manifest\"\n[plugins.mknod.config]\ndevices = [%q]\n"+
		"[plugins.mount]\ngrant = \"manifest\"\n[plugins.mount.config]\nallowed = [\"ext4\"]\nshift = true\n", pluginDir, d.Node())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	setup, problems := daemon.Load(ctx, path, config.Options{})
	if len(problems) > 0 {
		return nil, problems
	}
	setup.NoWarning = true
	return setup, nil
}

// options are those of the row's container.
func (r *row) options(command []string) run.Options {
	return run.Options{Args: command, Devices: r.devices}
}
