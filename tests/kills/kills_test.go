package kills

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/tests/stage"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(stage.Main(m, stage.Kinds{})) }

// kills and upgrades are how often the daemon is ended in each way: KILLS_COUNT, and KILLS_UPGRADES if it is another
// number.
var (
	kills    = stage.Number("KILLS_COUNT", 20)
	upgrades = stage.Number("KILLS_UPGRADES", kills)
)

var config = stage.Enable(map[string]string{"mknod": "", "sysinfo": "", "setxattr": ""})

// kept is a daemon that is started again whenever it ends.
type kept struct {
	*stage.Daemon
	test *stage.Test
	last int // process of the daemon
}

// keep has `intercede keep` start it.
func keep(t *testing.T) *kept {
	test := stage.New(t, nil)
	return &kept{Daemon: test.Serve(stage.Setup{Config: config, Kept: true}), test: test}
}

// await waits until another daemon than the last one answers.
func (k *kept) await() {
	k.test.Helper()
	k.test.Eventually("a daemon answers", func() bool {
		status := k.TryStatus()
		if status == nil || status.PID == k.last {
			return false
		}
		k.last = status.PID
		return true
	})
}

// worker is a container whose program checks its calls.
type worker struct {
	name string
	*stage.Process
}

// report is what a worker says of its calls.
type report struct {
	calls, longest, median, slow, wrong int // longest and median, of the slow ones, in ms
}

// finish ends the program and checks what it says.
func (w *worker) finish(t *testing.T) (r report) {
	t.Helper()
	w.In.Close()
	for {
		line := w.Line()
		if strings.HasPrefix(line, "wrong:") {
			t.Errorf("%s: %s", w.name, line)
			continue
		}
		t.Logf("%s: %s", w.name, line)
		const format = "calls %d longest %d median %d of %d wrong %d"
		if _, err := fmt.Sscanf(line, format, &r.calls, &r.longest, &r.median, &r.slow, &r.wrong); err != nil {
			t.Errorf("%s says %q: %v", w.name, line, err)
		}
		return r
	}
}

func (k *kept) start(t *testing.T) (workers []*worker) {
	t.Helper()
	for _, runtime := range []string{"runc", "runc", "runc", "crun", "crun", "crun"} {
		c := k.OCI(stage.OCI{Runtime: runtime, Named: true}, nil, "worker")
		workers = append(workers, &worker{runtime, k.test.Start(c)})
	}
	for range 2 {
		workers = append(workers, &worker{"LXC", k.test.Start(k.LXC(nil, "worker"))})
	}
	for _, w := range workers {
		if line := w.Line(); line != "ready" {
			t.Fatalf("%s says %q", w.name, line)
		}
	}
	return workers
}

// The daemon is ended by SIGKILL: no container notices anything but a pause.
func TestKill(t *testing.T) { keep(t).kill(t) }

// The daemon's program is replaced by another build of it, again and again, and back.
func TestUpgrade(t *testing.T) { keep(t).upgrade(t) }

// Both with the units of deploy/systemd, by a real systemd.
func TestSystemd(t *testing.T) {
	// A kill takes half a second.
	patience := 10*time.Minute + time.Duration(kills+upgrades)*3*time.Second
	if !stage.OnMachine(t, patience, "KILLS_COUNT", "KILLS_UPGRADES", "INTERCEDE_TEST_STRICT") {
		return
	}
	for name, try := range map[string]func(*kept, *testing.T){"kill": (*kept).kill, "upgrade": (*kept).upgrade} {
		t.Run(name, func(t *testing.T) {
			test := stage.New(t, nil)
			k := &kept{Daemon: test.Units(config), test: test}
			try(k, t)
			test.Eventually("systemd keeps no descriptor", func() bool { return test.Property("NFileDescriptorStore") == "0" })
		})
	}
}

func (k *kept) kill(t *testing.T) {
	k.await()
	workers := k.start(t)
	for range kills {
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		if err := unix.Kill(k.last, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		k.await()
	}
	k.finish(t, workers, kills)
}

func (k *kept) upgrade(t *testing.T) {
	k.await()
	workers := k.start(t)
	text, err := os.ReadFile(k.Program())
	if err != nil {
		t.Fatal(err)
	}
	for i := range upgrades {
		// Bytes at its end change nothing but the file.
		next := k.Program() + ".next"
		if err := os.WriteFile(next, append(text, byte(i)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, k.Program()); err != nil {
			t.Fatal(err)
		}
		k.test.Command(k.Program(), "upgrade", "--config", k.Config())
		k.await()
	}
	k.finish(t, workers, upgrades)
}

// finish ends the workers, of which the daemon must know all, and looks for what is left of dead daemons, of so many
// ends.
func (k *kept) finish(t *testing.T, workers []*worker, ends int) {
	t.Helper()
	// An LXC container is there again when its monitor's connection is.
	k.test.Eventually("the daemon has all containers", func() bool { return len(k.Status().Containers) == len(workers) })
	var all report
	for _, w := range workers {
		r := w.finish(t)
		all.calls += r.calls
		all.wrong += r.wrong
		all.longest, all.median = max(all.longest, r.longest), max(all.median, r.median)
	}
	const format = "%d containers, the daemon ended %d times: %d calls, %d wrong, the longest %d ms, " +
		"the median of one's slow ones %d ms at most"
	t.Logf(format, len(workers), ends, all.calls, all.wrong, all.longest, all.median)
	k.test.Eventually("the containers are gone", func() bool { return len(k.Status().Containers) == 0 })
	k.test.Eventually("their records are gone", func() bool { return k.count("containers") == 0 })
	k.test.Eventually("no plugin's process is left of other daemons", func() bool { return k.plugins() == len(k.Status().Plugins) })
}

// count is how many files a folder beside the daemon's sockets has.
func (k *kept) count(folder string) int {
	entries, _ := os.ReadDir(filepath.Join(filepath.Dir(k.Socket()), folder))
	return len(entries)
}

// plugins is how many processes of plugins there are, of this test's programs.
func (k *kept) plugins() (n int) {
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		// A plugin is executed from a mount of its file alone: its link has no folder.
		name, err := os.ReadFile(filepath.Join(filepath.Dir(link), "cmdline"))
		if err == nil && strings.HasPrefix(string(name), k.Plugins()+"/intercede-plugin-") {
			n++
		}
	}
	return n
}
