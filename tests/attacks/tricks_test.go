package attacks

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/intercede/intercede/tests/stage"
	"golang.org/x/sys/unix"
)

// trick runs testdata/tricks.c in a container with an input, which may be nil, and takes what it prints for gains.
func (a *attack) trick(d *daemon, program, what string, input *os.File, words ...string) {
	a.Helper()
	c := d.Container("--device-cgroup-rule", "b *:* rw")
	a.PutDisk(filepath.Join(c.Root, "disk"))
	cmd := c.Command(program, append([]string{what, strconv.Itoa(attempts), seconds(short())}, words...)...)
	if input != nil {
		cmd.Stdin = input
	}
	a.judgeLines(a.Start(cmd).Wait())
}

// judgeLines takes each line but the last, "done COUNT", for a gain.
func (a *attack) judgeLines(printed string) {
	a.Helper()
	lines := strings.Split(strings.TrimSpace(printed), "\n")
	done := -1
	if n, _ := fmt.Sscanf(lines[len(lines)-1], "done %d", &done); n != 1 {
		a.Fatalf("the attack did not come to its end: %s", printed)
	}
	summary.add("%s: %d attempts", a.Name(), done)
	for i, line := range lines[:len(lines)-1] {
		if i == 10 {
			break
		}
		a.succeeded("%s", line)
	}
}

// hostFolder is a directory of the host's root, which others may not write to.
func (a *attack) hostFolder(mode os.FileMode) string {
	a.Helper()
	dir := a.TempDir()
	if err := os.Chmod(dir, mode); err != nil {
		a.Fatal(err)
	}
	return dir
}

func (a *attack) open(path string) *os.File {
	a.Helper()
	file, err := os.Open(path)
	if err != nil {
		a.Fatal(err)
	}
	a.Cleanup(func() { file.Close() })
	return file
}

// checkUntouched notes what is in a directory of the host that was empty, and its attribute.
func (a *attack) checkUntouched(dir string) {
	a.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		a.Fatal(err)
	}
	if len(entries) > 0 {
		a.succeeded("%d files are in a directory of the host", len(entries))
	}
	if _, err := unix.Getxattr(dir, "trusted.overlay.opaque", make([]byte, 8)); !errors.Is(err, unix.ENODATA) {
		a.succeeded("a directory of the host has the attribute: %v", err)
	}
	var st, parent unix.Stat_t
	if err := errors.Join(unix.Stat(dir, &st), unix.Stat(filepath.Dir(dir), &parent)); err != nil {
		a.Fatal(err)
	}
	if st.Dev != parent.Dev {
		a.succeeded("something is mounted on a directory of the host")
	}
}

// both are a program of testdata for both architectures.
func both(t *testing.T, name string, try func(a *attack, program string)) {
	for _, program := range []string{name, name + "32"} {
		t.Run(program, func(t *testing.T) { try(newAttack(t), program) })
	}
}

// TestExchangedDirectories has a caller's descriptor be that of a directory of the host in the midst of the call.
func TestExchangedDirectories(t *testing.T) {
	both(t, "tricks", func(a *attack, program string) {
		host := a.hostFolder(0o755)
		a.trick(a.serve(stage.Setup{Config: stage.Everything}), program, "exchange", a.open(host))
		a.checkUntouched(host)
	})
}

// TestExchangedCgroups has programs attached to a cgroup of the host.
func TestExchangedCgroups(t *testing.T) {
	a := newAttack(t)
	foreign := a.open(a.Cgroup("unified"))
	a.trick(a.serve(stage.Setup{Config: stage.Everything}), "tricks", "cgroup", foreign)
	if n := a.countPrograms(foreign); n > 0 {
		a.succeeded("%d programs are attached to a cgroup of the host", n)
	}
}

// TestExchangedLinks has a path lead through links of procfs, of the container and of the host, to where the
// container may not.
func TestExchangedLinks(t *testing.T) {
	both(t, "tricks", func(a *attack, program string) {
		d := a.serve(stage.Setup{Config: stage.Everything})
		host := a.hostFolder(0o777)
		links := []string{"/proc/self/root/..", "/proc/1/cwd", "/proc/thread-self/fd/0"}
		processes := []string{"self", "thread-self", "1"}
		for _, pid := range []int{d.Status().PID, d.Plugin("mknod"), d.Plugin("mount")} {
			processes = append(processes, strconv.Itoa(pid))
		}
		for _, process := range processes {
			links = append(links, "/proc/self/fd/0/"+process+"/root"+host, "/proc/self/fd/0/"+process+"/cwd"+host)
			for fd := range 8 {
				links = append(links, fmt.Sprintf("/proc/self/fd/0/%s/fd/%d%s", process, fd, host))
			}
		}
		a.trick(d, program, "links", a.open("/proc"), links...)
		a.checkUntouched(host)
	})
}

// TestNested has root of a user namespace below the container's make every call.
func TestNested(t *testing.T) {
	both(t, "tricks", func(a *attack, program string) {
		a.trick(a.serve(stage.Setup{Config: stage.Everything}), program, "nested", nil)
	})
}

// TestForeignPIDs has the scheduling of processes of the host changed.
func TestForeignPIDs(t *testing.T) {
	both(t, "tricks", func(a *attack, program string) {
		d := a.serve(stage.Setup{Config: stage.Everything})
		victim := exec.Command("sleep", "1000")
		if err := victim.Start(); err != nil {
			a.Fatal(err)
		}
		defer victim.Wait()
		defer victim.Process.Kill()
		pids := []int{victim.Process.Pid, d.Status().PID, d.Plugin("sched"), os.Getpid()}
		before := scheduling(pids)
		var words []string
		for _, pid := range pids {
			words = append(words, strconv.Itoa(pid))
		}
		a.trick(d, program, "pids", nil, words...)
		if after := scheduling(pids); after != before {
			a.succeeded("the scheduling of processes of the host was %s and is %s", before, after)
		}
	})
}

// scheduling is the policies and nice values of processes.
func scheduling(pids []int) string {
	var all []string
	for _, pid := range pids {
		attr, err := unix.SchedGetAttr(pid, 0)
		if err != nil {
			all = append(all, err.Error())
			continue
		}
		all = append(all, fmt.Sprintf("%d/%d", attr.Policy, attr.Nice))
	}
	return strings.Join(all, " ")
}

// TestFullTable has descriptors added where there is no room.
func TestFullTable(t *testing.T) {
	both(t, "tricks", func(a *attack, program string) {
		d := a.serve(stage.Setup{Config: stage.Everything})
		before := d.descriptors()
		a.trick(d, program, "full", nil)
		d.checkDescriptors(before)
	})
}

// TestMountOptions gives options that a container may not give, in every form.
func TestMountOptions(t *testing.T) {
	both(t, "tricks", func(a *attack, program string) {
		a.trick(a.serve(stage.Setup{Config: stage.Everything}), program, "options", nil)
	})
}
