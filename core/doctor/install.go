package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/ociruntime"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// wrapperName is the name by which engines find `intercede oci-runtime`.
const wrapperName = "intercede-runc"

// installProbes look at what is installed on the host, and at what the config at the path names.
func installProbes(path string) []probe {
	i := &installation{path: path}
	return []probe{{
		name: "config", try: i.tryConfig,
		purpose: "it can be read, and only root can change it",
		without: "`intercede check` lists all that is wrong with it",
	}, {
		name: "daemon", try: i.tryDaemon,
		purpose: "it answers the calls of containers",
		without: "containers get ENOSYS, or are not created: systemctl enable --now intercede, or `intercede serve`",
	}, {
		name: "plugin folder", try: i.tryPlugins,
		purpose: "only root can change what is in it",
		without: "install the plugins there, as root's, or set [broker] plugin_dir; `intercede plugin list` shows each",
	}, {
		name: "OCI runtime", try: i.tryRuntime,
		purpose: "what `intercede oci-runtime` executes",
		without: "engines cannot create containers by intercede-runc: install the runtime, or set [oci_runtime] runtime",
	}, {
		name: "wrapper", try: tryWrapper,
		purpose: "engines find `intercede oci-runtime` by this name",
		without: "podman, docker and containerd are told a path: ln -s intercede /usr/bin/" + wrapperName + ", see docs/runtimes",
	}, {
		name: "subuid", try: trySubordinate("/etc/subuid"),
		purpose: "ids for podman's --userns=auto",
		without: "podman run --userns=auto fails: add the line `containers:2147483647:2147483648` to /etc/subuid; --uidmap works without",
	}, {
		name: "subgid", try: trySubordinate("/etc/subgid"),
		purpose: "ids for podman's --userns=auto",
		without: "podman run --userns=auto fails: add the line `containers:2147483647:2147483648` to /etc/subgid; --gidmap works without",
	}, {
		name: "/dev/fuse", try: tryFUSE,
		purpose: "for the mount plugin's setting fuse",
		without: "FUSE handlers of containers cannot work: modprobe fuse",
	}, {
		name: "AppArmor", try: tryAppArmor,
		purpose: "it does not restrict what containers need",
		without: "intercede run and rootless engines make user namespaces that have no power: sysctl kernel.apparmor_restrict_unprivileged_userns=0, " +
			"or a profile with `userns,` for them",
	}, {
		name: "boot order", try: tryBootOrder,
		purpose: "containers that start at boot find the daemon",
		without: "containers that an engine starts at boot may fail: install the units of deploy/systemd, and systemctl enable intercede.socket intercede.service",
	}}
}

// installation is what the config names.
type installation struct{ path string }

// read returns the config as far as it can be used, with the problems that it has.
func (i *installation) read() (*config.Document, error) {
	doc, problems := config.Load(i.path, config.Options{})
	if len(problems) > 0 {
		return doc, fmt.Errorf("%d problems, the first: %s", len(problems), problems[0].Error())
	}
	return doc, nil
}

// usable is read for those who need a part of it alone.
func (i *installation) usable() (*config.Document, error) {
	doc, err := i.read()
	if doc == nil {
		return nil, fmt.Errorf("the config cannot be used: %w", err)
	}
	return doc, nil
}

func (i *installation) tryConfig(context.Context) (string, error) {
	_, err := i.read()
	return i.path, err
}

func (i *installation) tryDaemon(ctx context.Context) (string, error) {
	doc, err := i.usable()
	if err != nil {
		return "", err
	}
	status, err := control.GetStatus(ctx, doc.Broker.Control)
	if err != nil {
		return "", err
	}
	found := fmt.Sprintf("process %d, %d plugins, %d containers", status.PID, len(status.Plugins), len(status.Containers))
	if !status.Healthy {
		return found, fmt.Errorf("it is not healthy (see `intercede status`): %s", strings.Join(status.Problems, "; "))
	}
	if len(status.Lost) > 0 {
		return found, fmt.Errorf("%d containers are lost: create them anew", len(status.Lost))
	}
	return found, nil
}

func (i *installation) tryPlugins(context.Context) (string, error) {
	doc, err := i.usable()
	if err != nil {
		return "", err
	}
	folder := doc.Broker.PluginDir
	entries, err := os.ReadDir(folder)
	if err != nil {
		return "", err
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutPrefix(e.Name(), wire.BinaryPrefix); ok {
			names = append(names, name)
		}
	}
	found := fmt.Sprintf("%s: %s", folder, strings.Join(names, " "))
	if len(names) == 0 {
		return folder, errors.New("there is no plugin in it")
	}
	return found, linux.CheckFolders(filepath.Join(folder, wire.BinaryPrefix))
}

func (i *installation) tryRuntime(ctx context.Context) (string, error) {
	doc, err := i.usable()
	if err != nil {
		return "", err
	}
	path, err := ociruntime.FindRuntime(doc.OCIRuntime.Runtime)
	if err != nil {
		return doc.OCIRuntime.Runtime, err
	}
	return path, ociruntime.Try(ctx, doc.OCIRuntime.Runtime)
}

func tryWrapper(context.Context) (string, error) {
	path, err := exec.LookPath(wrapperName)
	if err != nil {
		return "", fmt.Errorf("%s is not in PATH", wrapperName)
	}
	found, err := os.Stat(path)
	if err != nil {
		return path, err
	}
	own, err := os.Stat("/proc/self/exe")
	if err != nil {
		return path, err
	}
	if !os.SameFile(found, own) {
		return path, errors.New("it is another program than this one: engines use another version of intercede")
	}
	return path, nil
}

// trySubordinate looks for the ids of the user "containers", of which root's podman takes those of --userns=auto
// (podman-run(1)).
func trySubordinate(path string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "containers:") {
				return strings.TrimSpace(line), nil
			}
		}
		return path, errors.New("it has no line for the user \"containers\"")
	}
}

// fuseDevice is the number of /dev/fuse (Documentation/admin-guide/devices.txt).
var fuseDevice = unix.Mkdev(10, 229)

func tryFUSE(context.Context) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat("/dev/fuse", &st); err != nil {
		return "", &fs.PathError{Op: "stat", Path: "/dev/fuse", Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != fuseDevice {
		return "", errors.New("it is not the device c 10:229")
	}
	return "c 10:229", nil
}

func tryAppArmor(context.Context) (string, error) {
	enabled, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	if err != nil || strings.TrimSpace(string(enabled)) != "Y" {
		return "not enabled", nil
	}
	restricted, err := os.ReadFile("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
	if err == nil && strings.TrimSpace(string(restricted)) == "1" {
		return "enabled", errors.New("it restricts user namespaces of unprivileged programs")
	}
	return "enabled", nil
}

// engineUnits are those that start containers at boot.
var engineUnits = []string{"docker.service", "containerd.service", "crio.service", "podman-restart.service", "lxc.service", "incus.service"}

// tryBootOrder asks systemd whether the daemon is started at boot, before each engine that is there.
func tryBootOrder(ctx context.Context) (string, error) {
	if _, err := os.Stat("/run/systemd/system"); errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("systemd does not run here: start `intercede keep -- intercede serve` before the engines")
	}
	own, err := showUnit(ctx, daemonUnit, "LoadState", "UnitFileState", "Before")
	if err != nil {
		return "", err
	}
	if own["LoadState"] != "loaded" {
		return "", fmt.Errorf("%s is %s", daemonUnit, own["LoadState"])
	}
	if state := own["UnitFileState"]; state != "enabled" {
		return "", fmt.Errorf("%s is %s: systemctl enable %s", daemonUnit, state, daemonUnit)
	}
	before := strings.Fields(own["Before"])
	var late []string
	for _, unit := range engineUnits {
		engine, err := showUnit(ctx, unit, "LoadState")
		if err == nil && engine["LoadState"] == "loaded" && !slices.Contains(before, unit) {
			late = append(late, unit)
		}
	}
	if len(late) > 0 {
		return "enabled", fmt.Errorf("it is not started before %s", strings.Join(late, ", "))
	}
	return "enabled, before the engines", nil
}

// showUnit asks systemd for properties of a unit.
func showUnit(ctx context.Context, unit string, names ...string) (map[string]string, error) {
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--property="+strings.Join(names, ","), unit).Output()
	if err != nil {
		return nil, fmt.Errorf("systemctl show %s: %w", unit, err)
	}
	properties := map[string]string{}
	for line := range strings.SplitSeq(string(out), "\n") {
		if name, value, ok := strings.Cut(line, "="); ok {
			properties[name] = value
		}
	}
	return properties, nil
}
