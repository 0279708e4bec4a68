package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/internal/mountinfo"
	"github.com/intercede/intercede/sdk/target"
)

var hostProbes = []probe{{
	name: "root", required: true, try: tryRoot,
	purpose: "the broker reaches every container",
	without: "run it as root of the host: sudo intercede doctor",
}, {
	name: "capabilities of the broker", required: true, try: tryCapabilities(brokerCapabilities),
	purpose: "to read callers and to start plugins",
	without: "give the service these capabilities (CapabilityBoundingSet= in its unit)",
}, {
	name: "capabilities of plugins", try: tryCapabilities(pluginCapabilities),
	purpose: "to act for callers",
	without: "plugins that need them cannot be started: give the service these capabilities",
}, {
	name: "run", try: tryRun(run.Options{}),
	purpose: "a container of the host's files (overlayfs over an idmapped mount, 5.19)",
	without: "intercede run needs --rootfs, or does not work: see the next check",
}, {
	name: "run --rootfs", try: tryRunRootfs,
	purpose: "a container of a directory (idmapped mounts, 5.12)",
	without: "intercede run does not work with directories on the filesystem of TMPDIR; the daemon and other runtimes do",
}, {
	name: "run --memory", try: tryRun(run.Options{Memory: 128 << 20}),
	purpose: "a container with a memory limit",
	without: "intercede run works without --memory",
}, {
	name: "cgroups", try: tryCgroups,
	purpose: "device programs and memory limits of containers",
	without: "the plugin bpf works on a cgroup2 hierarchy: mount one, as systemd does",
}, {
	name: "real-time scheduling", try: tryRealTime,
	purpose: "containers may have real-time policies",
	without: "the kernel has CONFIG_RT_GROUP_SCHED: it refuses real-time policies with EPERM, whoever asks, in a cgroup whose cpu.rt_runtime_us is 0; set it for containers that need them",
}}

// initialUserNamespace is the inode of the host's own (PROC_USER_INIT_INO, include/linux/proc_ns.h).
const initialUserNamespace = 0xEFFFFFFD

func tryRoot(context.Context) (string, error) {
	namespace, err := target.StatNamespace("/proc/self/ns/user")
	switch {
	case err != nil:
		return "", err
	case namespace.Ino != initialUserNamespace:
		return "", errors.New("this process is in a user namespace, where root is not the host's")
	case os.Geteuid() != 0:
		return "", fmt.Errorf("user %d", os.Geteuid())
	}
	return "root of the host", nil
}

// brokerCapabilities start plugins with ids and capabilities of their own, end them, and read callers.
var brokerCapabilities = []string{"CAP_CHOWN", "CAP_KILL", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_PTRACE"}

// pluginCapabilities are those that the plugins shipped with intercede ask for.
var pluginCapabilities = []string{"CAP_BPF", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD",
	"CAP_NET_ADMIN", "CAP_PERFMON", "CAP_SETGID", "CAP_SETUID", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SYS_NICE", "CAP_SYS_PTRACE"}

func tryCapabilities(wanted []string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		self, err := target.Open(os.Getpid())
		if err != nil {
			return "", err
		}
		defer self.Close()
		credentials, err := self.Credentials()
		if err != nil {
			return "", err
		}
		lacking, err := lackingCapabilities(credentials.Permitted, wanted)
		if err == nil && len(lacking) > 0 {
			err = fmt.Errorf("missing: %s", strings.Join(lacking, " "))
		}
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("all %d", len(wanted)), nil
	}
}

func lackingCapabilities(permitted target.Capabilities, wanted []string) ([]string, error) {
	var lacking []string
	for _, name := range wanted {
		c, err := target.ParseCapability(name)
		if err != nil {
			return nil, err
		}
		if !permitted.Has(c) {
			lacking = append(lacking, name)
		}
	}
	return lacking, nil
}

// tryRun starts a container. That its command is not there does not matter: the container was.
func tryRun(options run.Options) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		options.Args = []string{"/intercede-doctor-tries-this"}
		container, err := run.Start(ctx, options)
		if err == nil {
			return "a container ran", container.Close()
		}
		var command *run.CommandError
		if !errors.As(err, &command) {
			return "", err
		}
		return "a container started", nil
	}
}

func tryRunRootfs(ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp("", "intercede-doctor-")
	if err != nil {
		return "", err
	}
	found, err := tryRun(run.Options{Rootfs: dir})(ctx)
	return found, errors.Join(err, os.RemoveAll(dir))
}

// sysctls are those that forbid user namespaces. Most kernels lack all but the first.
var sysctls = []string{"user/max_user_namespaces", "kernel/unprivileged_userns_clone", "kernel/apparmor_restrict_unprivileged_userns"}

// readSysctls gives those that are there as "user.max_user_namespaces=62000".
func readSysctls(dir string) string {
	var found []string
	for _, name := range sysctls {
		if value, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			found = append(found, strings.ReplaceAll(name, "/", ".")+"="+strings.TrimSpace(string(value)))
		}
	}
	return strings.Join(found, " ")
}

func tryCgroups(context.Context) (string, error) {
	mounts, err := mountinfo.Own()
	if err != nil {
		return "", err
	}
	return cgroupVersions(mounts)
}

func cgroupVersions(mounts []mountinfo.Mount) (string, error) {
	has := func(filesystem string) bool {
		return slices.ContainsFunc(mounts, func(m mountinfo.Mount) bool { return m.Type == filesystem })
	}
	switch v1, v2 := has("cgroup"), has("cgroup2"); {
	case v1 && v2:
		return "hybrid: v1, and v2 beside it", nil
	case v2:
		return "v2", nil
	case v1:
		return "v1", errors.New("no cgroup2 hierarchy is mounted")
	default:
		return "", errors.New("no cgroup hierarchy is mounted")
	}
}

// tryRealTime looks for the file that every cgroup of the controller has (sched-rt-group.rst).
func tryRealTime(context.Context) (string, error) {
	found, err := filepath.Glob("/sys/fs/cgroup/*/cpu.rt_runtime_us")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		return found[0], errors.New("real-time scheduling is by cgroup")
	}
	return "not by cgroup", nil
}
