package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/tests/stage"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(stage.Main(m, stage.Kinds{})) }

const (
	// callers is how many containers call at once.
	callers = 8
	// memory is what each of them may use, in bytes.
	memory = 64 << 20
	// pause is the longest time between two kills.
	pause = 60 * time.Millisecond
	// stops is how many kills there are for one SIGSTOP.
	stops = 20
)

// kills is how often a process is ended or stopped.
var kills = stage.Number("CHAOS_KILLS", 300)

// deadline is longer than the usual one: all callers make mounts on two processors or so, where a plugin is started
// every tenth of a second, and a call whose plugin dies is made again.
const deadline = `deadline = "60s"`

var config = stage.Enable(map[string]string{
	"mknod":    "",
	"sysinfo":  "",
	"setxattr": "read = true",
	"sched":    "min_nice = -10",
	"mount":    "allowed = [\"ext4\"]\nshift = true",
})

// TestPluginsDie has all calls succeed and be done once, whatever becomes of the plugins, and nothing be left.
func TestPluginsDie(t *testing.T) {
	test := stage.New(t, nil)
	d := test.Serve(stage.Setup{Config: config, Broker: deadline})
	before, links := settled(test, d), descriptors(d)
	var running []*stage.Process
	for range callers {
		c := d.Container("--memory", strconv.Itoa(memory), "--device-cgroup-rule", "b *:* rw")
		test.PutDisk(filepath.Join(c.Root, "disk"))
		running = append(running, c.Start("caller", strconv.Itoa(memory), "/disk"))
	}
	for _, p := range running {
		if line := p.Line(); line != "ready" {
			t.Fatalf("a caller says %q", line)
		}
	}
	began, all := time.Now(), kills
	killed, stopped := 0, 0
	for killed+stopped < all {
		time.Sleep(rand.N(pause))
		signal := unix.SIGKILL
		if rand.IntN(stops) == 0 {
			signal = unix.SIGSTOP
		}
		plugins := d.Status().Plugins
		pid := plugins[rand.IntN(len(plugins))].PID
		if pid == 0 || unix.Kill(pid, signal) != nil {
			continue // it is being started
		}
		if signal == unix.SIGKILL {
			killed++
		} else {
			stopped++
		}
	}
	t.Logf("%d processes killed and %d stopped in %v", killed, stopped, time.Since(began).Round(time.Second))
	for _, p := range running {
		finish(t, p)
	}
	for _, c := range d.Status().Containers {
		t.Errorf("container %s is left: %+v", c.ID, c)
	}
	restartAll(test, d)
	var after leftovers
	defer func() {
		t.Logf("before: %+v; after: %+v", before, after)
		if t.Failed() {
			t.Logf("descriptors before: %q\nafter: %q", links, descriptors(d))
		}
	}()
	test.Eventually("nothing is left", func() bool {
		after = count(d)
		return after.descriptors <= before.descriptors && after.plugins == before.plugins && after.children <= before.children &&
			after.abandoned <= before.abandoned
	})
}

// finish ends a caller and checks what it says.
func finish(t *testing.T, p *stage.Process) {
	t.Helper()
	p.In.Close()
	for {
		line := p.Line()
		if strings.HasPrefix(line, "wrong:") {
			t.Error(line)
			continue
		}
		t.Log(line)
		if !strings.HasPrefix(line, "calls ") {
			t.Errorf("a caller says %q", line)
		}
		break
	}
	p.Wait()
}

// restartAll kills each plugin once, so that none has anything of calls before.
func restartAll(test *stage.Test, d *stage.Daemon) {
	test.Helper()
	old := map[int]bool{}
	for _, p := range d.Status().Plugins {
		if p.PID != 0 {
			old[p.PID] = true
			unix.Kill(p.PID, unix.SIGKILL)
		}
	}
	test.Eventually("all plugins run", func() bool {
		for _, p := range d.Status().Plugins {
			if p.PID == 0 || old[p.PID] {
				return false
			}
		}
		return true
	})
}

// leftovers are what a daemon has, which must not become more.
type leftovers struct {
	descriptors, plugins, abandoned, children int
}

// settled waits until a daemon has the same twice: its own part of a connection, or a process that has ended, may be
// there for a moment.
func settled(test *stage.Test, d *stage.Daemon) (now leftovers) {
	test.Helper()
	var last leftovers
	test.Eventually("the daemon has what it had before", func() bool {
		last, now = now, count(d)
		return now == last
	})
	return now
}

func count(d *stage.Daemon) leftovers {
	pid := d.Status().PID
	own := fmt.Sprintf("/proc/%d", pid)
	return leftovers{
		descriptors: entries(filepath.Join(own, "fd")),
		plugins:     processes(func(cmdline string) bool { return strings.HasPrefix(cmdline, stage.Production+"/intercede-plugin-") }),
		abandoned:   abandoned(pid),
		children:    children(pid),
	}
}

// descriptors says what those of the daemon are.
func descriptors(d *stage.Daemon) (links []string) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", d.Status().PID))
	for _, file := range files {
		link, _ := os.Readlink(file)
		links = append(links, link)
	}
	slices.Sort(links)
	return links
}

func entries(dir string) int {
	found, _ := os.ReadDir(dir)
	return len(found)
}

// processes counts those with such a command line.
func processes(wanted func(cmdline string) bool) (n int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && wanted(string(text)) {
			n++
		}
	}
	return n
}

// children counts the processes that have this parent, ended ones too. It reads their status files: a process that
// executes a program may hold up who reads its stat file (exec_update_lock in do_task_stat, fs/proc/array.c).
func children(parent int) (n int) {
	files, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(text), fmt.Sprintf("\nPPid:\t%d\n", parent)) {
			n++
		}
	}
	return n
}

// abandoned counts the cgroups of plugins below the daemon's own that no broker has: a broker locks its own.
func abandoned(daemon int) (n int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", daemon))
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3) // cgroups(7)
		for _, hierarchy := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
			dirs, _ := filepath.Glob(filepath.Join(hierarchy, parts[2], "intercede-plugin-*"))
			for _, dir := range dirs {
				if !locked(dir) {
					n++
				}
			}
		}
	}
	return n
}

// locked reports whether somebody has locked a folder, or it is gone.
func locked(dir string) bool {
	file, err := os.Open(dir)
	if err != nil {
		return true
	}
	defer file.Close()
	return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
}
