package kills

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/tests/stage"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(stage.Main(m, stage.Kinds{})) }

// count is how often the daemon is ended: KILLS_COUNT.
func count(t *testing.T) int {
	t.Helper()
	text := os.Getenv("KILLS_COUNT")
	if text == "" {
		return 20
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("KILLS_COUNT: %v", err)
	}
	return n
}

const config = `
[plugins.mknod]
grant = "manifest"
[plugins.sysinfo]
grant = "manifest"
[plugins.setxattr]
grant = "manifest"
`

// kept is a daemon that `intercede keep` starts again whenever it ends.
type kept struct {
	*stage.Daemon
	test *stage.Test
	last int // process of the daemon
}

func serve(t *testing.T) *kept {
	test := stage.New(t, nil)
	dir, err := os.MkdirTemp("", "ic")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	keep := []string{filepath.Join(stage.Production, "intercede"), "keep", "--fallback", dir + "/fallback", "--"}
	return &kept{Daemon: test.Serve(stage.Setup{Config: config, Wrapper: keep}), test: test}
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

// finish ends the program and checks what it says.
func (w *worker) finish(t *testing.T) {
	t.Helper()
	w.In.Close()
	for {
		line := w.Line()
		if strings.HasPrefix(line, "wrong:") {
			t.Errorf("%s: %s", w.name, line)
			continue
		}
		t.Logf("%s: %s", w.name, line)
		var calls, longest, median, slow, wrong int
		if _, err := fmt.Sscanf(line, "calls %d longest %d median %d of %d wrong %d", &calls, &longest, &median, &slow, &wrong); err != nil {
			t.Errorf("%s says %q: %v", w.name, line, err)
		}
		return
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

// TestKill ends the daemon by SIGKILL: no container notices anything but a pause.
func TestKill(t *testing.T) {
	k := serve(t)
	k.await()
	workers := k.start(t)
	for range count(t) {
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		if err := unix.Kill(k.last, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		k.await()
	}
	k.finish(t, workers)
}

// finish ends the workers, of which the daemon must know all, and looks for what is left of dead daemons.
func (k *kept) finish(t *testing.T, workers []*worker) {
	t.Helper()
	status := k.Status()
	if len(status.Containers) != len(workers) {
		t.Errorf("the daemon has %d containers, want %d", len(status.Containers), len(workers))
	}
	for _, w := range workers {
		w.finish(t)
	}
	k.test.Eventually("the containers are gone", func() bool { return len(k.Status().Containers) == 0 })
	for what, n := range map[string]int{"records": k.count("containers"), "plugins' processes": k.plugins() - len(status.Plugins)} {
		if n > 0 {
			t.Errorf("%d %s are left", n, what)
		}
	}
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
		if err == nil && strings.HasPrefix(string(name), stage.Production+"/intercede-plugin-") {
			n++
		}
	}
	return n
}

// TestUpgrade replaces the daemon's program by another build of it, again and again, and back.
func TestUpgrade(t *testing.T) {
	k := serve(t)
	k.await()
	workers := k.start(t)
	program := filepath.Join(stage.Production, "intercede")
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for i := range count(t) {
		// Bytes at its end change nothing but the file.
		next := program + ".next"
		if err := os.WriteFile(next, append(text, byte(i)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, program); err != nil {
			t.Fatal(err)
		}
		k.test.Command(program, "upgrade", "--config", k.Config())
		k.await()
	}
	k.finish(t, workers)
}
