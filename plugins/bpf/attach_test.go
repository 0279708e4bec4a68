package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// TestEnforced attaches a program that denies /dev/null, in every allowed form.
func TestEnforced(t *testing.T) {
	deny := []string{openDir("/top/own"), "fd " + loadCall(denyNull)}
	allow := "fd " + loadCall(always(1))
	with := func(more ...string) []string { return append(append([]string{}, deny...), more...) }
	for name, test := range map[string]scripted{
		"attach":      {with(openNull, "sys "+attachCall(3, 4, multi), openNull, "sys "+detachCall(3, 4), openNull), "ok ok EPERM ok ok", "addfd value value"},
		"twice":       {with("sys "+attachCall(3, 4, multi), "sys "+attachCall(3, 4, multi), openNull), "ok EINVAL EPERM", "addfd value errno"},
		"two":         {with(allow, "sys "+attachCall(3, 4, multi), "sys "+attachCall(3, 5, multi), openNull, "sys "+detachCall(3, 4), openNull), "ok ok EPERM ok ok", "addfd addfd value value value"},
		"replace":     {with(allow, "sys "+attachCall(3, 4, multi), "sys "+replaceCall(3, 5, 4), openNull, "sys "+detachCall(3, 4)), "ok ok ok ENOENT", "addfd addfd value value errno"},
		"closed":      {with("do "+attachCall(3, 4, multi), "do close 4", openNull, "sys "+detachCall(3, 4), openNull), "EPERM EINVAL EPERM", "addfd value errno"},
		"link":        {with("fd "+linkCall(3, 4), "sys fcntl 5 F_GETFD", openNull), "ok EPERM", "addfd addfd"},
		"unlink":      {with("fd "+linkCall(3, 4), "sys "+detachCall(3, 4), "sys bpf 34 struct:4=5 4", openNull), "ENOENT ok ok", "addfd addfd errno"},
		"path":        {[]string{"open /top/own O_PATH|O_DIRECTORY", "fd " + loadCall(denyNull), "sys " + attachCall(3, 4, multi), openNull}, "ok EPERM", "addfd value"},
		"thread":      {append([]string{"thread"}, with("sys "+attachCall(3, 4, multi), openNull, "sys "+detachCall(3, 4))...), "ok EPERM ok", "addfd value value"},
		"no leader":   {append([]string{"leader-exits"}, with("sys "+attachCall(3, 4, multi), openNull)...), "ok EPERM", "addfd value"},
		"other child": {with("do "+attachCall(3, 4, multi), "fork", openNull, "sys "+detachCall(3, 4), openNull), "EPERM ok ok", "addfd value value"},
		"chroot":      {append([]string{"mkdir /tmp/root"}, with("chroot /tmp/root", "sys "+attachCall(3, 4, multi))...), "ok", "addfd value"},
	} {
		t.Run(name, func(t *testing.T) { newPair(t).compare(t, test) })
	}
}

// TestLinkEnds with its last descriptor.
func TestLinkEnds(t *testing.T) {
	c, tr := newContainer(t)
	got := c.Call(t, openDir("/top/own"), "fd "+loadCall(denyNull), "fd "+linkCall(3, 4), openNull)
	if outcome := sdktest.Errnos(got.Lines(t)); outcome != "EPERM" {
		t.Fatalf("with the link: %s", outcome)
	}
	for _, call := range got.Calls {
		call.Outcome.File.Close() // sdktest's copy
	}
	if outcome := sdktest.Errnos(c.Call(t, openNull).Lines(t)); outcome != "ok" {
		t.Errorf("afterwards: %s", outcome)
	}
	if got := tr.count(t); got != none {
		t.Errorf("attached: %s", got)
	}
}

// TestBelow attaches below the container's cgroup, where its own processes are not.
func TestBelow(t *testing.T) {
	for _, name := range []string{"own/sub", "own/sub/deep"} {
		t.Run(name, func(t *testing.T) {
			c, tr := newContainer(t)
			got := c.Call(t, openDir("/top/"+name), "fd "+loadCall(denyNull), "sys "+attachCall(3, 4, multi), openNull)
			if outcome := sdktest.Errnos(got.Lines(t)); outcome != "ok ok" {
				t.Errorf("got %s", outcome)
			}
			if now := tr.attached(t, name); len(now.programs) != 1 || now.flags != multi {
				t.Errorf("%+v is attached", now)
			}
		})
	}
}

func TestEnforced32(t *testing.T) {
	c, _ := newContainer(t)
	got := c.Call32(t, openDir("/top/own"), "fd "+loadCall(denyNull), "sys "+attachCall(3, 4, multi), openNull,
		"sys "+queryCall(3, 0, 4), "sys "+detachCall(3, 4), openNull, "fd "+linkCall(3, 4), openNull,
		load(map[string]string{"license": "8=0x100000000"}), load(map[string]string{"insns": "p=bad"}))
	if outcome := sdktest.Errnos(got.Lines(t)); outcome != "ok EPERM ok ok ok EPERM EFAULT EFAULT" {
		t.Errorf("got %s", outcome)
	}
}

// TestOutside attaches, detaches and queries where the container is not, by whichever mount.
func TestOutside(t *testing.T) {
	tr := newTree(t)
	name := filepath.Base(tr.top)
	for _, dir := range []string{"/top", "/top/sibling", "/cgroup", "/cgroup/" + name, "/cgroup/" + name + "/sibling", "/top/own/.."} {
		t.Run(strings.ReplaceAll(dir, "/", "-"), func(t *testing.T) {
			c := tr.container(t, handler{}, enabled)
			got := c.Call(t, openDir(dir), "fd "+loadCall(denyNull), "sys "+attachCall(3, 4, multi), "sys "+attachCall(3, 4, 0),
				"sys "+linkCall(3, 4), "sys "+detachCall(3, 4), "sys "+queryCall(3, 0, 4), "sys "+queryCall(3, 1, 4), openNull)
			if outcome := sdktest.Errnos(got.Lines(t)); outcome != "EPERM EPERM EPERM EPERM EPERM EPERM ok" {
				t.Errorf("got %s", outcome)
			}
			if got := tr.count(t); got != none {
				t.Errorf("attached: %s", got)
			}
		})
	}
}

// TestMounts has the container's cgroup in other places: what was mounted where does not matter.
func TestMounts(t *testing.T) {
	for name, c := range map[string]struct{ mounted, opened, want string }{
		"own":              {"own", "/x", "ok EPERM"},
		"below":            {"own", "/x/sub", "ok ok"},
		"whole":            {".", "/x/own", "ok EPERM"},
		"sibling":          {"sibling", "/x", "EPERM ok"},
		"a part":           {"own/sub", "/x", "EPERM ok"}, // from there, no way leads to the container's own
		"parent of mounts": {"own", "/x/..", "EBADF ok"},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t)
			container := tr.container(t, handler{}, enabled, sdktest.WithMount(cloneMount(t, filepath.Join(tr.top, c.mounted)), "/x"))
			got := container.Call(t, openDir(c.opened), "fd "+loadCall(denyNull), "sys "+attachCall(3, 4, multi), openNull)
			if outcome := sdktest.Errnos(got.Lines(t)); outcome != c.want {
				t.Errorf("got %s, want %s", outcome, c.want)
			}
		})
	}
}

// TestNoCgroup is a container whose cgroup is not its alone: the host's processes are there too.
func TestNoCgroup(t *testing.T) {
	tr := newTree(t)
	path := strings.TrimPrefix(tr.top, hierarchy(t)) + "/own"
	own, err := openCgroup(inCgroup(path))
	if err != nil {
		t.Fatalf("an empty cgroup: %v", err)
	}
	own.close()
	sleep := exec.Command("sleep", "infinity")
	sleep.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(tr.open(t, "own").Fd())}
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer sleep.Wait()
	defer sleep.Process.Kill()
	if own, err := openCgroup(inCgroup(path)); err == nil {
		own.close()
		t.Error("a cgroup with a process of the host is the container's own")
	}
	for name, c := range map[string]*sdktest.Container{
		"shared": tr.container(t, handler{}, enabled),
		"root":   sdktest.NewContainer(t, handler{}, enabled, sdktest.WithMount(cloneMount(t, hierarchy(t)), "/cgroup"), sdktest.WithMount(cloneMount(t, tr.top), "/top")),
	} {
		t.Run(name, func(t *testing.T) {
			for _, dir := range []string{"/cgroup", "/top/own"} {
				got := c.Call(t, openDir(dir), "fd "+loadCall(always(1)), "sys "+attachCall(3, 4, multi), "sys "+linkCall(3, 4), "sys "+queryCall(3, 0, 4))
				if outcome := sdktest.Errnos(got.Lines(t)); outcome != "EPERM EPERM EPERM" {
					t.Errorf("%s: got %s", dir, outcome)
				}
			}
		})
	}
}

// TestModes that would keep the host from attaching its own, or override it.
func TestModes(t *testing.T) {
	c, tr := newContainer(t)
	for _, dir := range []string{"/top/own", "/top/own/sub"} {
		got := c.Call(t, openDir(dir), "fd "+loadCall(always(1)), "sys "+attachCall(3, 4, 0), "sys "+attachCall(3, 4, unix.BPF_F_ALLOW_OVERRIDE))
		if outcome := sdktest.Errnos(got.Lines(t)); outcome != "EPERM EPERM" {
			t.Errorf("%s: %s", dir, outcome)
		}
	}
	if got := tr.count(t); got != none {
		t.Errorf("attached: %s", got)
	}
}

// TestHostsPrograms has programs of the host attached in every mode at every place: they must stay, and stay in force.
func TestHostsPrograms(t *testing.T) {
	const override, single = unix.BPF_F_ALLOW_OVERRIDE, 0
	for name, c := range map[string]struct {
		place string
		flags uint32
		want  string // of attach, link and query in own, of attach in own/sub
	}{
		"multi above":       {".", multi, "ok ok ok ok"},
		"multi here":        {"own", multi, "ok ok ok ok"},
		"multi below":       {"own/sub", multi, "ok ok ok ok"},
		"override above":    {".", override, "EPERM EPERM ok EPERM"},
		"override here":     {"own", override, "EPERM EPERM ok EPERM"},
		"override below":    {"own/sub", override, "ok ok ok EPERM"},
		"single above":      {".", single, "EPERM EPERM ok EPERM"},
		"single here":       {"own", single, "EPERM EPERM ok EPERM"},
		"single below":      {"own/sub", single, "ok ok ok EPERM"},
		"override far away": {"sibling", override, "ok ok ok ok"},
	} {
		t.Run(name, func(t *testing.T) {
			container, tr := newContainer(t)
			host := tr.attachAsHost(t, c.place, 0, c.flags)
			got := container.Call(t, openDir("/top/own"), openDir("/top/own/sub"), "fd "+loadCall(always(1)),
				"sys "+attachCall(3, 5, multi), "sys "+linkCall(3, 5), "sys "+queryCall(3, 0, 4), "sys "+attachCall(4, 5, multi),
				openNull,
				// The host's cannot be detached by a descriptor of another program, or by none.
				"sys "+detachCall(3, 99), "sys "+detachCall(4, 99), "sys "+detachCall(3, 5), "sys "+detachCall(4, 5), openNull)
			lines := got.Lines(t)
			if outcome := sdktest.Errnos(lines[:4]); outcome != c.want {
				t.Errorf("got %s, want %s", outcome, c.want)
			}
			if inForce := c.place == "." || c.place == "own"; inForce {
				if outcome := sdktest.Errnos([]sdktest.Line{lines[4], lines[9]}); outcome != "EPERM EPERM" {
					t.Errorf("the host's program is not in force: %s", outcome)
				}
			}
			info, err := host.Info()
			if err != nil {
				t.Fatal(err)
			}
			id, _ := info.ID()
			if now := tr.attached(t, c.place); !slices.Contains(now.programs, uint32(id)) || now.flags != c.flags {
				t.Errorf("%+v is attached, want the host's %d", now, id)
			}
		})
	}
}

// TestHostsDescriptor gives the container a descriptor of a program of the host: it can neither attach it, nor replace or
// detach it where the host attached it.
func TestHostsDescriptor(t *testing.T) {
	for _, flags := range []uint32{multi, unix.BPF_F_ALLOW_OVERRIDE, 0} {
		t.Run(fmt.Sprint(flags), func(t *testing.T) {
			tr := newTree(t)
			host := tr.attachAsHost(t, "own", 0, flags)
			pins := bpffs(t)
			if err := host.Pin(filepath.Join(pins, "program")); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Join(pins, "program"), 0o666); err != nil {
				t.Fatal(err)
			}
			c := tr.container(t, handler{}, enabled, sdktest.WithMount(cloneMount(t, pins), "/pins"))
			got := c.Call(t, openDir("/top/own"), "fd bpf 7 struct:p=s:/pins/program,4=0,4=0 16", "fd "+loadCall(always(1)), openDir("/top/own/sub"),
				"sys "+detachCall(3, 4), "sys "+replaceCall(3, 5, 4), "sys "+attachCall(6, 4, multi), "sys "+linkCall(6, 4), openNull)
			if outcome := sdktest.Errnos(got.Lines(t)); outcome != "EPERM EPERM EPERM EPERM EPERM" {
				t.Errorf("got %s", outcome)
			}
			if got := tr.count(t); got != ".:0 own:1 own/sub:0 own/sub/deep:0 sibling:0" {
				t.Errorf("attached: %s", got)
			}
		})
	}
}

// TestGetByID gives the container its own programs, and none of the host's.
func TestGetByID(t *testing.T) {
	c, tr := newContainer(t)
	c.Call(t, openDir("/top/own"), "fd "+loadCall(always(1)), "do "+attachCall(3, 4, multi))
	own := tr.attached(t, "own").programs[0]
	tr.attachAsHost(t, "own", 1, multi)
	hosts := tr.attached(t, "own").programs[1]
	get := func(id uint32, more string) string {
		return fmt.Sprintf("sys bpf 13 struct:4=%d,4=0,4=%s 12", id, more)
	}
	got := c.Call(t, get(own, "0"), "sys fcntl 3 F_GETFD", openDir("/top/own"), "sys "+detachCall(4, 3),
		get(own, "1"), get(hosts, "0"), get(0, "0"), "setuid 1000", get(own, "0"))
	if outcome := sdktest.Errnos(got.Lines(t)); outcome != "ok ok ok EINVAL EPERM EPERM EPERM" {
		t.Errorf("got %s", outcome)
	}
	if flags := got.Lines(t)[1].Ret; flags != unix.FD_CLOEXEC {
		t.Errorf("the descriptor's flags are %d", flags)
	}
	if got := got.Kinds(); got != "addfd value continue continue continue continue" {
		t.Errorf("answered by %s", got)
	}
}

// bpffs mounts a bpffs, in which descriptors of programs can be left.
func bpffs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, "mode=0777"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestRoom is left for the host to attach more.
func TestRoom(t *testing.T) {
	c, tr := newContainer(t)
	attach := []string{openDir("/top/own"), "fd " + loadCall(always(1)), "sys " + attachCall(3, 4, multi)}
	for range maxAttached {
		if outcome := sdktest.Errnos(c.Call(t, attach...).Lines(t)); outcome != "ok" {
			t.Fatal(outcome)
		}
	}
	if outcome := sdktest.Errnos(c.Call(t, attach...).Lines(t)); outcome != "E2BIG" {
		t.Errorf("one more: %s", outcome)
	}
	tr.attachAsHost(t, "own", 1, multi)
}

// TestHostStillAttaches what it wants to the container's cgroup, and detaches the container's.
func TestHostStillAttaches(t *testing.T) {
	c, tr := newContainer(t)
	c.Call(t, openDir("/top/own"), "fd "+loadCall(always(1)), "do "+attachCall(3, 4, multi))
	tr.attachAsHost(t, "own", 0, multi)
	if outcome := sdktest.Errnos(c.Call(t, openNull).Lines(t)); outcome != "EPERM" {
		t.Errorf("under the host's program: %s", outcome)
	}
	now := tr.attached(t, "own")
	program, err := ebpf.NewProgramFromID(ebpf.ProgramID(now.programs[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	err = link.RawDetachProgram(link.RawDetachProgramOptions{Target: int(tr.open(t, "own").Fd()), Program: program, Attach: ebpf.AttachCGroupDevice})
	if err != nil {
		t.Error(err)
	}
}
