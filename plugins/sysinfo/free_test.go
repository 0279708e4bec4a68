package sysinfo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// free is what a program of that name prints of the memory, in its unit. Cache is -1 where it shows none.
type free struct {
	total, used, free, shared, cache int64
}

// addsUp reports whether nothing is below zero, or missing, but for rounding.
func (f free) addsUp() bool {
	whole := f.used + f.free + max(f.cache, 0)
	return f.used >= 0 && f.used <= f.total && f.free <= f.total && whole >= f.total-4 && whole <= f.total+4
}

// runFree runs a program's free in the container.
func runFree(t *testing.T, c *sdktest.Container, program string, args ...string) free {
	t.Helper()
	r := c.Run(t, program, args...)
	_, line, ok := strings.Cut(r.Stdout, "Mem:")
	f := free{cache: -1}
	_, err := fmt.Sscan(line, &f.total, &f.used, &f.free, &f.shared, &f.cache)
	if !ok || err != nil {
		t.Fatalf("%s %v prints %q (%s): %v", program, args, r.Stdout, r.Stderr, err)
	}
	return f
}

// boundMeminfo is a file that a container has as its /proc/meminfo.
func boundMeminfo(t *testing.T) (shown *os.File, bound sdktest.Option) {
	t.Helper()
	sdktest.RequireRoot(t)
	shown, err := os.Create(filepath.Join(t.TempDir(), "meminfo"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shown.Close() })
	tree, err := unix.OpenTree(unix.AT_FDCWD, shown.Name(), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	mount := os.NewFile(uintptr(tree), "meminfo")
	t.Cleanup(func() { mount.Close() })
	return shown, sdktest.WithMount(mount, "/proc/meminfo")
}

// TestFreeWithMeminfo has a /proc/meminfo of the container's cgroup, as LXCFS shows it.
func TestFreeWithMeminfo(t *testing.T) {
	const limit = 64 * mib
	g := newLimited(t, limit)
	shown, bound := boundMeminfo(t)
	c := sdktest.NewContainer(t, handler{}, g.option(t), bound)
	busybox := c.InstallFromHost(t, "busybox")
	// So that most of what the container uses is cache.
	for _, args := range [][]string{
		{"dd", "if=" + busybox, "of=/tmp/cached", "bs=1M"}, {"truncate", "-s", "30M", "/tmp/hole"}, {"md5sum", "/tmp/hole"},
	} {
		if r := c.Run(t, busybox, args...); r.ExitCode != 0 {
			t.Fatalf("%v: %s", args, r.Stderr)
		}
	}
	stat, err := os.ReadFile(filepath.Join(g.dir, "memory.stat"))
	if err != nil {
		t.Fatal(err)
	}
	cached := parseMemoryStat(stat, "total_cache")
	used, err := newFile(g.dir, "memory.usage_in_bytes").readAmount()
	if err != nil {
		t.Fatal(err)
	}
	if cached < 30*mib {
		t.Fatalf("%d bytes of cache: the test needs more than half of what is used", cached)
	}
	fmt.Fprintf(shown, "MemTotal: %d kB\nMemFree: %d kB\nMemAvailable: %d kB\nBuffers: 0 kB\nCached: %d kB\nSReclaimable: 0 kB\nShmem: 0 kB\n",
		limit>>10, (limit-used)>>10, (limit-used+cached)>>10, cached>>10)

	if f := runFree(t, c, busybox, "free", "-k"); f.total != limit>>10 || f.cache != int64(cached>>10) || !f.addsUp() {
		t.Errorf("busybox free prints %+v", f)
	}
	f := runFree(t, c, c.InstallFromHost(t, "toybox"), "free", "-b")
	if f.total != limit || !(free{f.total, f.used, f.free, f.shared, 0}).addsUp() {
		t.Errorf("toybox free prints %+v", f)
	}
	if f := runFree(t, c, c.InstallFromHost(t, "free"), "-k"); f.total != limit>>10 || f.used < 0 || f.used > f.total {
		t.Errorf("free of procps prints %+v", f)
	}
}

// TestFreeOfHostsCache has a limit and the host's /proc/meminfo, with more cache than the container uses: what busybox
// shows as used is total - free - cache, below zero. Here cache alone is above total, so that it is whatever sysinfo
// says of free memory. The other columns are right.
func TestFreeOfHostsCache(t *testing.T) {
	const limit = 64 * mib
	c := sdktest.NewContainer(t, handler{}, newLimited(t, limit).option(t))
	if err := os.WriteFile(filepath.Join(t.TempDir(), "cached"), make([]byte, 2*limit), 0o600); err != nil {
		t.Fatal(err)
	}
	const total, wrap = limit >> 10, 1 << 54 // in KiB; wrap: 64 bits of bytes
	said := c.Run(t, c.InstallFromHost(t, "busybox"), "free", "-k").Stdout
	_, line, _ := strings.Cut(said, "Mem:")
	rest, limited := strings.CutPrefix(strings.TrimSpace(line), fmt.Sprint(total)) // no space comes after it
	var used, free, shared, cache uint64
	_, err := fmt.Sscan(rest, &used, &free, &shared, &cache)
	whole := (used + free + cache) % wrap
	if err != nil || !limited || free > total || cache <= total || used <= total || whole > total+4 || whole < total-4 {
		t.Errorf("busybox free prints %q: %v", said, err)
	}
}

// TestFreeAlone has the host's /proc/meminfo.
func TestFreeAlone(t *testing.T) {
	const limit = 64 * mib
	host, err := hostSysinfo()
	if err != nil {
		t.Fatal(err)
	}
	unlimited, limited := sdktest.NewContainer(t, handler{}), sdktest.NewContainer(t, handler{}, newLimited(t, limit).option(t))
	f := runFree(t, unlimited, unlimited.InstallFromHost(t, "busybox"), "free", "-k")
	if f.total != int64(host.memory.total>>10) || !f.addsUp() {
		t.Errorf("busybox free prints %+v", f)
	}
	for c, total := range map[*sdktest.Container]int64{unlimited: int64(host.memory.total), limited: limit} {
		f := runFree(t, c, c.InstallFromHost(t, "toybox"), "free", "-b")
		if f.total != total || !(free{f.total, f.used, f.free, f.shared, 0}).addsUp() {
			t.Errorf("toybox free prints %+v, want a total of %d", f, total)
		}
		f = runFree(t, c, c.InstallFromHost(t, "free"), "-k")
		if f.total != int64(host.memory.total>>10) || f.used < 0 || f.used > f.total {
			t.Errorf("free of procps prints %+v, want the host's", f)
		}
	}
}
