package bpf

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// TestLinkEnds with its last descriptor.
func TestLinkEnds(t *testing.T) {
	c, tr := enabledContainer(t)
	closeCopies(checkErrnos(t, c, "EPERM", openDir("/top/own"), "fd "+loadCall(denyNull), "fd "+linkCall(3, 4), openNull))
	// The plugin closes its descriptor a moment after it has sent it.
	for end := time.Now().Add(time.Minute); tr.count(t) != none && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	checkErrnos(t, c, "ok", openNull)
	tr.checkCount(t, none)
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
			container, tr := enabledContainer(t)
			host := tr.attachAsHost(t, c.place, 0, c.flags)
			got := container.Call(t, openDir("/top/own"), openDir("/top/own/sub"), "fd "+loadCall(always(1)),
				"sys "+attachCall(3, 5), "sys "+linkCall(3, 5), "sys "+queryCall(3, 0, 4), "sys "+attachCall(4, 5),
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
			now, id := tr.attached(t, c.place), idOf(t, host)
			if !slices.Contains(now.programs, id) || now.flags != c.flags {
				t.Errorf("%+v is attached, want the host's %d", now, id)
			}
		})
	}
}

// TestHostsDescriptor gives the container a descriptor of a program of the host: it can neither attach it, nor replace
// or detach it where the host attached it.
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
			checkErrnos(t, c, "EPERM EPERM EPERM EPERM EPERM",
				openDir("/top/own"), "fd bpf 7 struct:p=s:/pins/program,4=0,4=0 16", "fd "+loadCall(always(1)), openDir("/top/own/sub"),
				"sys "+detachCall(3, 4), "sys "+replaceCall(3, 5, 4), "sys "+attachCall(6, 4), "sys "+linkCall(6, 4), openNull)
			tr.checkCount(t, ".:0 own:1 own/sub:0 own/sub/deep:0 sibling:0")
		})
	}
}

// TestGetByID gives the container its own programs, and none of the host's.
func TestGetByID(t *testing.T) {
	c, tr := enabledContainer(t)
	c.Call(t, openDir("/top/own"), "fd "+loadCall(always(1)), "do "+attachCall(3, 4))
	own := tr.attached(t, "own").programs[0]
	tr.attachAsHost(t, "own", 1, multi)
	hosts := tr.attached(t, "own").programs[1]
	get := func(id uint32, more string) string {
		return fmt.Sprintf("sys bpf 13 struct:4=%d,4=0,4=%s 12", id, more)
	}
	got := checkErrnos(t, c, "ok ok ok EINVAL EPERM EPERM EPERM",
		get(own, "0"), "sys fcntl 3 F_GETFD", openDir("/top/own"), "sys "+detachCall(4, 3),
		get(own, "1"), get(hosts, "0"), get(0, "0"), "setuid 1000", get(own, "0"))
	if flags := got.Lines(t)[1].Ret; flags != unix.FD_CLOEXEC {
		t.Errorf("the descriptor's flags are %d", flags)
	}
	if got := got.Kinds(); got != "addfd value next next next next" {
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
	c, tr := enabledContainer(t)
	attach := []string{openDir("/top/own"), "fd " + loadCall(always(1)), "sys " + attachCall(3, 4)}
	for range maxAttached {
		checkErrnos(t, c, "ok", attach...)
	}
	checkErrnos(t, c, "E2BIG", attach...)
	tr.attachAsHost(t, "own", 1, multi)
}

// TestHostStillAttaches what it wants to the container's cgroup, and detaches the container's.
func TestHostStillAttaches(t *testing.T) {
	c, tr := enabledContainer(t)
	c.Call(t, openDir("/top/own"), "fd "+loadCall(always(1)), "do "+attachCall(3, 4))
	tr.attachAsHost(t, "own", 0, multi)
	checkErrnos(t, c, "EPERM", openNull)
	now := tr.attached(t, "own")
	program, err := ebpf.NewProgramFromID(ebpf.ProgramID(now.programs[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	err = link.RawDetachProgram(link.RawDetachProgramOptions{
		Target: int(tr.open(t, "own").Fd()), Program: program, Attach: ebpf.AttachCGroupDevice,
	})
	if err != nil {
		t.Error(err)
	}
}
