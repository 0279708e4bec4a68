package sdktest

import (
	"os"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/linux"
)

// Option changes what NewContainer makes.
type Option func(*config)

type config struct {
	settings map[string]any
	deadline time.Duration
	realRoot bool
	mounts   []mountAt
	cgroup   *os.File
}

type mountAt struct {
	mount  *os.File
	target string
}

// WithSettings overrides the manifest's defaults.
func WithSettings(settings map[string]any) Option {
	return func(c *config) { c.settings = settings }
}

// WithDeadline is how long a Handle may take before the caller gets the failure verdict; 10 s without.
func WithDeadline(d time.Duration) Option {
	return func(c *config) { c.deadline = d }
}

// WithRealRoot makes a container without a user namespace: root in it is root of the host. What it can do is what an
// intercepted caller should be able to.
func WithRealRoot() Option {
	return func(c *config) { c.realRoot = true }
}

// WithMount mounts a detached mount of the host (fsmount(2), open_tree(2); see Tmpfs) on a directory of the rootfs,
// which is made if it is not there.
func WithMount(mount *os.File, target string) Option {
	return func(c *config) { c.mounts = append(c.mounts, mountAt{mount, target}) }
}

// HostProcfs is the host's procfs as a detached mount, until the end of the test: a container that shares the host's
// pid namespace has it.
func HostProcfs(t testing.TB) *os.File {
	t.Helper()
	RequireRoot(t)
	mount, err := linux.CloneMount("/proc", 0)
	if err != nil {
		t.Fatalf("sdktest: the host's procfs: %v", err)
	}
	t.Cleanup(func() { mount.Close() })
	return mount
}

// Tmpfs makes a detached tmpfs whose superblock belongs to the host, with the mount attributes given
// (unix.MOUNT_ATTR_NODEV ...); mode=1777. It needs CAP_SYS_ADMIN.
func Tmpfs(t testing.TB, attributes int) *os.File {
	t.Helper()
	mount, err := linux.NewMount("tmpfs", map[string]string{"mode": "1777"}, attributes)
	if err != nil {
		t.Fatalf("sdktest: %v", err)
	}
	t.Cleanup(func() { mount.Close() })
	return mount
}
