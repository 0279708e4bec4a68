package sysinfo

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { sdktest.Main(m, handler{}) }

// caller asks sysinfo(2) in several situations.
const caller = `
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

static int print(void) {
	struct sysinfo s;
	memset(&s, 0xff, sizeof s);
	if (syscall(SYS_sysinfo, &s)) {
		perror("sysinfo");
		return 1;
	}
	unsigned long long u = s.mem_unit;
	printf("uptime %ld\nload1 %lu\nload5 %lu\nload15 %lu\ntotal %llu\nfree %llu\nshared %llu\nbuffer %llu\n"
		"swap %llu\nfreeswap %llu\nprocs %u\nhigh %lu\nunit %llu\n",
		s.uptime, s.loads[0], s.loads[1], s.loads[2], s.totalram * u, s.freeram * u, s.sharedram * u, s.bufferram * u,
		s.totalswap * u, s.freeswap * u, s.procs, s.totalhigh + s.freehigh, u);
	return 0;
}

static void *sleeper(void *unused) { pause(); return 0; }
static void *printer(void *unused) { print(); return 0; }

static void attempt(const char *name, void *p) {
	long r = syscall(SYS_sysinfo, p);
	printf("%s %d\n", name, r ? errno : 0);
}

static void put(const char *path, const char *text) {
	int fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, text, strlen(text)) < 0) {
		perror(path);
		exit(1);
	}
	close(fd);
}

int main(int argc, char **argv) {
	pthread_t t;
	char *page;
	if (!strcmp(argv[1], "print"))
		return print();
	if (!strcmp(argv[1], "spin"))
		for (;;)
			;
	if (!strcmp(argv[1], "thread")) {
		pthread_create(&t, 0, printer, 0);
		pthread_join(t, 0);
		return 0;
	}
	if (!strcmp(argv[1], "threads")) {
		for (int i = 0; i < atoi(argv[2]); i++)
			if (pthread_create(&t, 0, sleeper, 0))
				return 1;
		return print();
	}
	if (!strcmp(argv[1], "touch")) {
		memset(mmap(0, atoi(argv[2]) << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1, atoi(argv[2]) << 20);
		return print();
	}
	if (!strcmp(argv[1], "share")) {
		memset(mmap(0, atoi(argv[2]) << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), 1, atoi(argv[2]) << 20);
		return print();
	}
	if (!strcmp(argv[1], "timens")) {
		if (unshare(CLONE_NEWTIME)) {
			perror("unshare");
			return 1;
		}
		put("/proc/self/timens_offsets", argv[2]);
		if (!fork())
			_exit(print() | fflush(stdout));
		wait(0);
		return 0;
	}
	// A process in a time namespace has unshared another one for its children.
	if (!strcmp(argv[1], "timens-twice")) {
		if (unshare(CLONE_NEWTIME)) {
			perror("unshare");
			return 1;
		}
		put("/proc/self/timens_offsets", argv[2]);
		if (!fork()) {
			if (unshare(CLONE_NEWTIME))
				_exit(1);
			put("/proc/self/timens_offsets", argv[3]);
			_exit(print() | fflush(stdout));
		}
		wait(0);
		return 0;
	}
	if (!strcmp(argv[1], "timens-unforked")) {
		if (unshare(CLONE_NEWTIME)) {
			perror("unshare");
			return 1;
		}
		put("/proc/self/timens_offsets", argv[2]);
		return print();
	}
	if (!strcmp(argv[1], "faults")) {
		page = mmap(0, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		mprotect(page + 4096, 4096, PROT_NONE);
		attempt("null", 0);
		attempt("unmapped", (void *)16);
		attempt("highest", (void *)-1L);
		attempt("prot_none", page + 4096);
		attempt("straddling", page + 4096 - 8);
		mprotect(page + 8192, 4096, PROT_READ);
		attempt("read-only", page + 8192);
		attempt("code", main);
		attempt("unaligned", page + 1);
		return 0;
	}
	return 2;
}
`

// numbers are what the caller printed.
type numbers map[string]uint64

func parseOutput(t *testing.T, r sdktest.Result) numbers {
	t.Helper()
	if r.ExitCode != 0 {
		t.Fatalf("the caller exited with %d: %s", r.ExitCode, r.Stderr)
	}
	values := numbers{}
	for line := range strings.Lines(r.Stdout) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		values[key] = n
	}
	return values
}

func (n numbers) between(t *testing.T, key string, low, high uint64) {
	t.Helper()
	if v, ok := n[key]; !ok || v < low || v > high {
		t.Errorf("%s is %d, want %d to %d", key, v, low, high)
	}
}

// cgroup is a version 1 cgroup for a container.
type cgroup struct {
	dir  string // on the host
	path string // below the root of the hierarchy
}

// option puts a container into it.
func (g cgroup) option(t testing.TB) sdktest.Option {
	t.Helper()
	dir, err := os.Open(g.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return sdktest.WithCgroup(dir)
}

// newCgroup makes a version 1 cgroup below this process's own.
func newCgroup(t testing.TB, controller string) cgroup {
	t.Helper()
	sdktest.RequireRoot(t)
	sdktest.RequireCgroups(t, controller)
	cgroups, err := sdk.ReadCgroups("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	own := sdk.Container{Cgroups: cgroups}
	controllers := own.CgroupHierarchy(controller)
	folder, ok := foldersOf(t, own)[controllers]
	if controllers == "" || !ok {
		sdktest.Lacking(t, "needs the %s controller in cgroup version 1", controller)
	}
	name := fmt.Sprintf("sysinfo-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	g := cgroup{filepath.Join(folder.Path, name), filepath.Join(cgroups[controllers], name)}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		sdktest.Lacking(t, "make a cgroup: %v", err)
	}
	t.Cleanup(func() { removeCgroup(t, g.dir) })
	return g
}

func foldersOf(t testing.TB, container sdk.Container) cgroupFolders {
	t.Helper()
	folders, err := container.CgroupFolders()
	if err != nil {
		t.Fatal(err)
	}
	return folders
}

// newLimited makes a memory cgroup with a limit in bytes.
func newLimited(t testing.TB, limit int) cgroup {
	t.Helper()
	g := newCgroup(t, "memory")
	setLimit(t, g.dir, limit)
	return g
}

func setLimit(t testing.TB, dir string, limit int) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "memory.limit_in_bytes"), []byte(strconv.Itoa(limit)), 0); err != nil {
		t.Fatal(err)
	}
}

// removeCgroup waits for the tasks to leave: one that is killed stays until it is reaped.
func removeCgroup(t testing.TB, dir string) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Rmdir(dir)
		if err == nil {
			return
		}
		if err != unix.EBUSY || time.Now().After(deadline) {
			t.Errorf("remove cgroup %s: %v", dir, err)
			return
		}
	}
}

// abis are those of this machine that the C compiler knows.
func abis() map[string][]string {
	if runtime.GOARCH == "amd64" {
		return map[string][]string{"x86_64": nil, "i386": {"-m32"}}
	}
	return map[string][]string{runtime.GOARCH: nil}
}

const mib = 1 << 20

func TestLimitedContainer(t *testing.T) {
	const limit = 64 * mib
	for abi, flags := range abis() {
		t.Run(abi, func(t *testing.T) {
			c := sdktest.NewContainer(t, handler{}, newLimited(t, limit).option(t))
			program := c.Install(t, compileC(t, caller, flags...))
			run := func(args ...string) numbers { return parseOutput(t, c.Run(t, program, args...)) }

			idle := run("print")
			idle.between(t, "total", limit, limit)
			idle.between(t, "free", limit/4, limit-1)
			idle.between(t, "shared", 0, limit)
			idle.between(t, "buffer", 0, 0)
			idle.between(t, "unit", 1, 1)
			idle.between(t, "high", 0, 0)
			host, err := hostSysinfo()
			if err != nil {
				t.Fatal(err)
			}
			idle.between(t, "uptime", host.uptime-min(host.uptime, 60), host.uptime)
			idle.between(t, "procs", 2, 60)

			touched := run("touch", "20")
			touched.between(t, "free", 0, idle["free"]-15*mib)
			shared := run("share", "20")
			// The kernel counts some pages late (mem_cgroup_flush_stats, mm/memcontrol.c).
			for end := time.Now().Add(time.Minute); shared["shared"] < idle["shared"]+20*mib && time.Now().Before(end); {
				shared = run("share", "20")
			}
			shared.between(t, "shared", idle["shared"]+20*mib, limit)
			eventuallyCounted(t, func() numbers { return run("threads", "200") }, 201, 260)
			run("thread").between(t, "total", limit, limit)
		})
	}
}

// eventuallyCounted waits for a count of tasks: one that took long, on a busy machine, is used again for a while.
func eventuallyCounted(t *testing.T, ask func() numbers, least, most uint64) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if ask()["procs"] >= least {
			break
		}
	}
	ask().between(t, "procs", least, most)
}

// TestUnlimitedContainer shows the host's memory, and the container's own uptime and tasks.
func TestUnlimitedContainer(t *testing.T) {
	host, err := hostSysinfo()
	if err != nil {
		t.Fatal(err)
	}
	for abi, flags := range abis() {
		t.Run(abi, func(t *testing.T) {
			c := sdktest.NewContainer(t, handler{})
			program := c.Install(t, compileC(t, caller, flags...))
			direct := parseOutput(t, sdktest.AsRoot(t, compileC(t, caller, flags...), "print"))
			got := parseOutput(t, c.Run(t, program, "print"))
			for _, key := range []string{"total", "swap", "unit", "high"} {
				got.between(t, key, direct[key], direct[key])
			}
			got.between(t, "total", host.memory.total, host.memory.total)
			got.between(t, "free", 1, direct["total"])
			got.between(t, "buffer", 0, 0)
			got.between(t, "uptime", direct["uptime"], direct["uptime"]+60)
			got.between(t, "procs", 2, 60)
			eventuallyCounted(t, func() numbers { return parseOutput(t, c.Run(t, program, "threads", "50")) }, 51, 110)
		})
	}
}

// TestPidsController has the kernel's own count of the container's tasks.
func TestPidsController(t *testing.T) {
	g := newCgroup(t, "pids")
	c := sdktest.NewContainer(t, handler{}, g.option(t))
	program := c.Install(t, compileC(t, caller))
	parseOutput(t, c.Run(t, program, "threads", "100")).between(t, "procs", 102, 160)
	current, err := newFile(g.dir, "pids.current").readAmount()
	if err != nil {
		t.Fatal(err)
	}
	parseOutput(t, c.Run(t, program, "print")).between(t, "procs", current, current+10)
}

// TestFaults compares the errors for every kind of bad pointer with those that the kernel gives.
func TestFaults(t *testing.T) {
	for abi, flags := range abis() {
		t.Run(abi, func(t *testing.T) {
			program := compileC(t, caller, flags...)
			direct := sdktest.AsRoot(t, program, "faults")
			c := sdktest.NewContainer(t, handler{})
			got := c.Run(t, c.Install(t, program), "faults")
			if got.Stdout != direct.Stdout || !strings.Contains(got.Stdout, fmt.Sprintf("null %d\n", unix.EFAULT)) {
				t.Errorf("got\n%swithout interception\n%s", got.Stdout, direct.Stdout)
			}
		})
	}
}

// TestTimeNamespace has the uptime of real root, in every time namespace.
func TestTimeNamespace(t *testing.T) {
	sdktest.RequireKernel(t, "5.6", "time namespaces")
	c := sdktest.NewContainer(t, handler{})
	program := compileC(t, caller)
	installed := c.Install(t, program)
	var now unix.Sysinfo_t
	if err := unix.Sysinfo(&now); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"print"},
		{"timens", "boottime 5000 0"},
		{"timens", fmt.Sprintf("boottime -%d 0", min(1000, now.Uptime/2))}, // not to before the boot, which the kernel refuses
		{"timens", "monotonic 5000 0"},
		{"timens-unforked", "boottime 5000 0"},
		{"timens-twice", "boottime 5000 0", "boottime 9000 0"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			direct := parseOutput(t, sdktest.AsRoot(t, program, args...))["uptime"]
			parseOutput(t, c.Run(t, installed, args...)).between(t, "uptime", direct, direct+60)
		})
	}
}

// TestContainersUptime counts from the start of the container's init.
func TestContainersUptime(t *testing.T) {
	sdktest.RequireKernel(t, "5.6", "time namespaces")
	c := sdktest.NewContainer(t, handler{}, sdktest.WithSettings(map[string]any{"uptime": ofContainer}))
	program := c.Install(t, compileC(t, caller))
	parseOutput(t, c.Run(t, program, "print")).between(t, "uptime", 1, 60)
	parseOutput(t, c.Run(t, program, "timens", "boottime 5000 0")).between(t, "uptime", 5001, 5060)
	parseOutput(t, c.Run(t, program, "timens", "monotonic 5000 0")).between(t, "uptime", 1, 60)
	parseOutput(t, c.Run(t, program, "timens-twice", "boottime 5000 0", "boottime 9000 0")).between(t, "uptime", 5001, 5060)
}

// TestLoadsOfContainer asks each container once, so that nothing but its attachment can have begun its averages: the
// next container has more time for the first sample.
func TestLoadsOfContainer(t *testing.T) {
	spinning := compileC(t, caller)
	for wait := 2 * loadInterval; wait < time.Minute; wait *= 2 {
		c := sdktest.NewContainer(t, handler{}, sdktest.WithSettings(map[string]any{"loads": ofContainer}))
		program := c.Install(t, spinning)
		busy := c.Start(t, program, "spin")
		time.Sleep(wait)
		got := parseOutput(t, c.Run(t, program, "print"))
		busy.Kill(t)
		if got["load1"] > 0 {
			got.between(t, "load1", got["load15"], 10<<loadShift)
			return
		}
	}
	t.Error("the load is 0 for a container in which a task has run all the time")
}

func TestLoadsSetting(t *testing.T) {
	program := compileC(t, caller)
	loadsOf := func(t *testing.T, loads string) [3]uint64 {
		c := sdktest.NewContainer(t, handler{}, sdktest.WithSettings(map[string]any{"loads": loads}))
		got := parseOutput(t, c.Run(t, c.Install(t, program), "print"))
		return [3]uint64{got["load1"], got["load5"], got["load15"]}
	}
	t.Run(ofContainer, func(t *testing.T) {
		for {
			begun := time.Now()
			got := loadsOf(t, ofContainer)
			if time.Since(begun) >= loadInterval {
				continue // the first sample may have been taken
			}
			if got != [3]uint64{} {
				t.Errorf("%v for a container that has just begun", got)
			}
			return
		}
	})
	t.Run(ofHost, func(t *testing.T) {
		hosts := func() [3]uint64 {
			host, err := hostSysinfo()
			if err != nil {
				t.Fatal(err)
			}
			return [3]uint64(host.loads)
		}
		for {
			before, got, after := hosts(), loadsOf(t, ofHost), hosts()
			if before != after {
				continue // the kernel's averages move every five seconds
			}
			if got != before {
				t.Errorf("%v, while the host has %v", got, before)
			}
			return
		}
	})
	harness := sdktest.Serve(t, handler{})
	for _, key := range []string{"loads", "uptime"} {
		if err := harness.Refusal(sdk.Container{}, map[string]any{key: "mine"}); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s = mine: %v", key, err)
		}
	}
	for _, bad := range []sdk.Settings{
		sdk.Settings(`{"loads":"mine","uptime":"host"}`), sdk.Settings(`{"loads":"host","uptime":"mine"}`),
		sdk.Settings(`{"loads":"host","uptime":"host","other":1}`),
	} {
		if _, err := (handler{}).Attach(t.Context(), sdk.Container{}, bad); err == nil {
			t.Errorf("the handler itself takes %s", bad)
		}
	}
}

// TestUnprivileged reads everything as an ordinary user without capabilities, as the plugin runs.
func TestUnprivileged(t *testing.T) {
	c := sdktest.NewContainer(t, handler{}, newLimited(t, 64*mib).option(t))
	container := c.Identity()
	folders := foldersOf(t, container)
	type result struct {
		info   sysinfo
		listed int
		err    error
	}
	done := make(chan result)
	target.GoOnThread(func() { // the thread ends with it
		var r result
		if r.err = becomeNobody(); r.err == nil {
			session := newSession(thisHost, container, folders, settings{Uptime: ofHost, Loads: ofHost})
			defer session.Close()
			r.info, r.err = session.sysinfo(t.Context(), 0)
			r.listed = len(session.tasks.list(t.Context()))
		}
		done <- r
	})
	got := <-done
	if got.err != nil {
		t.Fatal(got.err)
	}
	host, err := hostSysinfo()
	if err != nil {
		t.Fatal(err)
	}
	if got.info.memory.total != 64*mib || got.info.procs < 1 || got.info.procs > 60 || got.listed < 1 {
		t.Errorf("an ordinary user sees %+v, %d tasks; the host has %+v", got.info, got.listed, host)
	}
}

// becomeNobody gives the calling thread up: another user, and with it no capabilities.
func becomeNobody() error {
	const nobody = 65534
	for _, call := range [][2]uintptr{{unix.SYS_SETGROUPS, 0}, {unix.SYS_SETRESGID, nobody}, {unix.SYS_SETRESUID, nobody}} {
		if _, _, errno := unix.RawSyscall(call[0], call[1], call[1], call[1]); errno != 0 {
			return fmt.Errorf("system call %d: %w", call[0], errno)
		}
	}
	return nil
}

// TestCgroupVanishes removes a container's cgroup, whose files are kept open.
func TestCgroupVanishes(t *testing.T) {
	l := newLimited(t, 64*mib)
	inner := filepath.Join(l.dir, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Rmdir(inner) })
	setLimit(t, inner, 16*mib)
	container := sdk.Container{Cgroups: map[string]string{"memory": l.path + "/inner"}}
	m := openMemory(thisHost, container, foldersOf(t, container))
	defer m.close()
	if u := m.read(1<<40, 0); u.limit != 16*mib {
		t.Fatalf("limit %d, want 16 MiB", u.limit)
	}
	setLimit(t, inner, 8*mib)
	if u := m.read(1<<40, 0); u.limit != 8*mib {
		t.Errorf("limit %d after it was lowered, want 8 MiB", u.limit)
	}
	removeCgroup(t, inner)
	if u := m.read(1<<40, 0); u.limit != 64*mib {
		t.Errorf("limit %d after the cgroup is gone, want its parent's", u.limit)
	}
}

func TestManifest(t *testing.T) {
	m := handler{}.Manifest()
	if m.Name != "sysinfo" || len(m.Capabilities) != 0 {
		t.Errorf("manifest %+v: want no capabilities", m)
	}
	if !slices.ContainsFunc(m.Syscalls, func(s sdk.Syscall) bool {
		return s.Name == "sysinfo" && len(s.When) == 0 && len(s.Reads) == 0
	}) {
		t.Errorf("syscalls %+v: want every sysinfo, and no reads", m.Syscalls)
	}
}

// BenchmarkSysinfo is one call's work in a limited container, without transport.
func BenchmarkSysinfo(b *testing.B) {
	c := sdktest.NewContainer(b, handler{}, newLimited(b, 64*mib).option(b))
	container := c.Identity()
	session := newSession(thisHost, container, foldersOf(b, container), settings{Uptime: ofHost, Loads: ofHost})
	defer session.Close()
	info, _ := thisHost.sysinfo()
	for name, part := range map[string]func(){
		"whole":  func() { session.sysinfo(b.Context(), 0) },
		"memory": func() { session.memory.read(info.memory.total, info.swap.total) },
		"tasks":  func() { session.tasks.list(b.Context()) },
		"host":   func() { thisHost.sysinfo() },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				part()
			}
		})
	}
}
