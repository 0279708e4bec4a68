package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/intercede/intercede/internal/device"
	"golang.org/x/sys/unix"
)

// Options describes one container.
type Options struct {
	// Rootfs is the directory that becomes the container's root: root of the container owns there what root of the host
	// owns. Empty: the host's root filesystem, all of which the
	// container's root can read, without the mounts below it and with every change discarded.
	Rootfs string
	// Ephemeral discards the container's changes to Rootfs when it ends. Mounts below Rootfs are then not seen.
	Ephemeral bool
	// Name is the hostname. Empty: the container's ID.
	Name string
	// Memory is the limit in bytes; memory and swap together are limited to twice as much, as podman does. 0: none.
	Memory int64
	// Devices are the device nodes that the container may open beside the usual ones (null, zero, full, random,
	// urandom, tty, terminals), as podman's --device-cgroup-rule has them: "c 10:229 rw".
	Devices []string
	// DeviceNodes are nodes of the host that the container gets and may open, as podman's --device has them:
	// "/dev/fuse", "/dev/loop7:/dev/disk:rw".
	DeviceNodes []string
	// Mounts and Tmpfs are what is mounted in the container, as podman's --mount (bind and tmpfs) and --tmpfs have it.
	Mounts, Tmpfs []string
	// Ulimits are limits of the command, as podman's --ulimit has them: "nofile=1024:4096".
	Ulimits []string
	// UIDMap and GIDMap are ranges CONTAINER:HOST:SIZE of ids; one is used for the other too if that is empty. Both
	// empty: 65536 ids from HostID on.
	UIDMap, GIDMap []string
	// CapDrop lists capabilities that the container does not get, with or without CAP_, in any case; or "all".
	CapDrop []string
	// User is USER[:GROUP], each a name of the container's /etc/passwd or /etc/group, or a number. Empty: root.
	User string
	// Env are K=V pairs on top of PATH, HOME, HOSTNAME, container and, with a terminal, TERM.
	Env []string
	// Workdir is an absolute path in the container. Empty: "/".
	Workdir string
	// Args is the command and its arguments.
	Args []string
	// HostID is the host's uid and gid of the container's root, first of 65536. 0: as [DefaultHostID] says.
	HostID uint32
	// Filter is the seccomp program of the command. Empty: no filter, no listener.
	Filter []unix.SockFilter
	// Warn is told, before the command is executed, what the container lacks that is not an error; nil: nobody is.
	Warn func(text string)
	// Stdin, Stdout and Stderr are inherited as they are, except those that are terminals: these become a terminal of
	// the container's own, connected to the caller's while the container runs. nil: /dev/null.
	Stdin, Stdout, Stderr *os.File
}

// hostnameRule is podman's rule for a container's name.
var hostnameRule = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// hostnameMax is __NEW_UTS_LEN of include/uapi/linux/utsname.h.
const hostnameMax = 64

// Check returns every fault of the options' form. [Start] does it too, and checks what depends on the host.
func (o *Options) Check() error {
	return errors.Join(
		o.checkCommand(),
		o.checkName(),
		o.checkEnv(),
		o.checkMemory(),
		o.checkCapabilities(),
		o.checkDevices(),
		o.checkMounts(),
	)
}

func (o *Options) checkCommand() error {
	if len(o.Args) == 0 || o.Args[0] == "" {
		return errors.New("no command to run: want a command after --")
	}
	for _, arg := range o.Args {
		if strings.ContainsRune(arg, 0) {
			return fmt.Errorf("argument %q contains a NUL byte", arg)
		}
	}
	if o.Workdir != "" && !filepath.IsAbs(o.Workdir) {
		return fmt.Errorf("working directory %q is not an absolute path in the container", o.Workdir)
	}
	return nil
}

func (o *Options) checkName() error {
	if o.Name == "" {
		return nil
	}
	if len(o.Name) > hostnameMax || !hostnameRule.MatchString(o.Name) {
		return fmt.Errorf("name %q cannot be a hostname: use 1 to %d letters, digits, '_', '.' or '-', the first a letter or digit", o.Name, hostnameMax)
	}
	return nil
}

func (o *Options) checkRootfs() error {
	if o.Rootfs == "" {
		return nil
	}
	info, err := os.Stat(o.Rootfs)
	if err != nil {
		return fmt.Errorf("root filesystem: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("root filesystem %s is not a directory: unpack it into one", o.Rootfs)
	}
	host, err := os.Stat("/")
	if err != nil {
		return fmt.Errorf("root filesystem: %w", err)
	}
	if !o.Ephemeral && os.SameFile(info, host) {
		return fmt.Errorf("root filesystem %s is the host's own, which the container could change: leave --rootfs away, or add --ephemeral", o.Rootfs)
	}
	return nil
}

func (o *Options) checkEnv() error {
	for _, pair := range o.Env {
		key, _, found := strings.Cut(pair, "=")
		if !found || key == "" || strings.ContainsRune(pair, 0) {
			return fmt.Errorf("environment %q is not of the form NAME=VALUE", pair)
		}
	}
	return nil
}

func (o *Options) checkMemory() error {
	if o.Memory < 0 {
		return fmt.Errorf("memory limit %d is negative: give bytes, or 0 for no limit", o.Memory)
	}
	return nil
}

func (o *Options) checkCapabilities() error {
	_, err := parseCapabilities(o.CapDrop)
	return err
}

func (o *Options) checkFilter() error {
	if len(o.Filter) > unix.BPF_MAXINSNS {
		return fmt.Errorf("the filter has %d instructions, and the kernel takes %d: enable fewer plugins", len(o.Filter), unix.BPF_MAXINSNS)
	}
	return nil
}

func (o *Options) checkDevices() error {
	_, err := device.ParseRules(o.Devices)
	return err
}

func (o *Options) checkMounts() error {
	mounts, err1 := parseMounts(o.Tmpfs, o.Mounts)
	nodes, err2 := parseNodes(o.DeviceNodes)
	_, err3 := parseUlimits(o.Ulimits)
	_, _, err4 := o.maps()
	if len(o.Mounts)+len(o.DeviceNodes) > mountsMax {
		return fmt.Errorf("%d mounts and devices: at most %d fit", len(o.Mounts)+len(o.DeviceNodes), mountsMax)
	}
	return errors.Join(err1, err2, err3, err4, checkTargets(mounts, nodes))
}
