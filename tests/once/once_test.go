package once

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/require"
	"github.com/intercede/intercede/tests/stage"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(stage.Main(m, stage.Kinds{})) }

// A program ends after so many calls, or this time.
var (
	most   = stage.Number("ONCE_CALLS", 20_000)
	length = stage.Number("ONCE_SECONDS", 2)
)

// kind is a kind of containers.
type kind struct {
	name     string
	killable bool // its callers wait through signals
	command  func(d *stage.Daemon, prepare stage.Prepare, program string, args ...string) *exec.Cmd
}

var kinds = []kind{
	{"run", true, func(d *stage.Daemon, prepare stage.Prepare, program string, args ...string) *exec.Cmd {
		c := d.Container("--device-cgroup-rule", "b *:* rw")
		if prepare != nil {
			prepare(c.Root)
		}
		return c.Command(program, args...)
	}},
	{"runc", false, oci("runc", false)},
	{"crun", true, oci("crun", true)},
	{"crun without the flag", false, oci("crun", false)},
	{"LXC", false, (*stage.Daemon).LXC},
}

func oci(runtime string, named bool) func(d *stage.Daemon, prepare stage.Prepare, program string, args ...string) *exec.Cmd {
	return func(d *stage.Daemon, prepare stage.Prepare, program string, args ...string) *exec.Cmd {
		return d.OCI(stage.OCI{Runtime: runtime, Named: named}, prepare, program, args...)
	}
}

var config = stage.Enable(map[string]string{"mknod": "", "mount": "allowed = [\"ext4\"]\nshift = true"})

// inEach runs a test with containers of each kind, and a daemon for them.
func inEach(t *testing.T, run func(s *stage.Test, d *stage.Daemon, k kind)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			require.Root(t)
			s := stage.New(t, nil)
			run(s, s.Serve(stage.Setup{Config: config}), k)
		})
	}
}

// Where callers do not wait through signals, the kernel may lose an answer, of which the broker finds nearly all: see
// core/broker/doubt.go. One in 200,000 signals is not found on an idle machine. An answer that was not lost may be
// taken for one that was, which a call that is the same as the one before then gets: one in 1,000 signals. These are
// more. Where the broker does not find calls that come again, one signal in 5 to 100 has a wrong result.
const (
	signalsPerLoss  = 10_000
	signalsPerDoubt = 330
)

// wrongAtMost is how many wrong results a program may have with so many signals. One that has one in signalsPerWrong on
// average has more of them less than once in a million times (Poisson).
func wrongAtMost(signals, signalsPerWrong int) int {
	mean := float64(signals) / float64(signalsPerWrong)
	return int(mean + 5*math.Sqrt(mean) + 4)
}

// judge reads what a program printed, which the test paused so often, and of which one call in so many signals may be
// wrong.
func (k kind) judge(s *stage.Test, printed string, pauses, signalsPerWrong int) {
	s.Helper()
	var calls, wrong, signals int
	if n, err := fmt.Sscan(printed, &calls, &wrong, &signals); n != 3 {
		s.Fatalf("%q: %v", printed, err)
	}
	allowed := 0
	if !k.killable {
		allowed = wrongAtMost(signals+pauses, signalsPerWrong)
	}
	s.Logf("%d wrong results are allowed, %d pauses: %s", allowed, pauses, strings.TrimSpace(printed))
	if wrong > allowed || calls == 0 {
		s.Fault("%d wrong results of %d: %s", wrong, calls, printed)
	}
}

// TestTimer makes nodes with a timer's signals, whose handler has the kernel restart calls.
func TestTimer(t *testing.T) {
	for _, period := range []time.Duration{5 * time.Millisecond, time.Millisecond, 300 * time.Microsecond} {
		t.Run(period.String(), func(t *testing.T) {
			inEach(t, func(s *stage.Test, d *stage.Daemon, k kind) {
				k.judge(s, s.Start(k.command(d, nil, "calls", words("mknod", period, "restart", "-")...)).Wait(), 0, signalsPerLoss)
			})
		})
	}
}

// words are the arguments of testdata/calls.c.
func words(what string, period time.Duration, flags, token string) []string {
	return []string{what, strconv.Itoa(most), strconv.Itoa(length), strconv.Itoa(int(period)), flags, token}
}

// TestTwice makes calls that are alike: each has a result of its own.
func TestTwice(t *testing.T) {
	inEach(t, func(s *stage.Test, d *stage.Daemon, k kind) {
		k.judge(s, s.Start(k.command(d, nil, "calls", words("twice", 5*time.Millisecond, "restart", "-")...)).Wait(), 0, signalsPerDoubt)
	})
}

// TestGo makes nodes in a Go program, whose runtime sends signals to its threads.
func TestGo(t *testing.T) {
	for name, period := range map[string]time.Duration{"alone": 0, "with a ticker": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			inEach(t, func(s *stage.Test, d *stage.Daemon, k kind) {
				words := []string{strconv.Itoa(most), strconv.Itoa(length), strconv.Itoa(int(period))}
				k.judge(s, s.Start(k.command(d, nil, "gocalls", words...)).Wait(), 0, signalsPerLoss)
			})
		})
	}
}

// TestMount mounts a disk with a timer's signals.
func TestMount(t *testing.T) {
	inEach(t, func(s *stage.Test, d *stage.Daemon, k kind) {
		disk := func(root string) { s.PutDisk(filepath.Join(root, "disk")) }
		k.judge(s, s.Start(k.command(d, disk, "calls", words("mount", 4*time.Millisecond, "restart", "-")...)).Wait(), 0, signalsPerLoss)
	})
}

// TestPauses freezes the process that makes nodes, again and again, and stops it, which takes it out of its call too.
func TestPauses(t *testing.T) {
	for name, pause := range map[string]func(*stage.Test, int) (hold, release func()){"frozen": freezer, "stopped": stopper} {
		t.Run(name, func(t *testing.T) {
			inEach(t, func(s *stage.Test, d *stage.Daemon, k kind) {
				token := newToken()
				p := s.Start(k.command(d, nil, "calls", words("mknod", 0, "restart", token)...))
				over, done := make(chan struct{}), make(chan int)
				hold, release := pause(s, find(s, "calls", token))
				go func() { done <- repeat(hold, release, over) }()
				fmt.Fprintln(p.In)
				printed := p.Wait()
				close(over)
				pauses := <-done
				k.judge(s, printed, pauses, signalsPerLoss)
			})
		})
	}
}

// repeat holds and releases until it is over, and returns how often.
func repeat(hold, release func(), over <-chan struct{}) (times int) {
	for ; ; times++ {
		select {
		case <-over:
			return times
		case <-time.After(2 * time.Millisecond):
		}
		hold()
		time.Sleep(time.Millisecond)
		release()
	}
}

// newToken is an argument that one program alone has.
func newToken() string { return fmt.Sprintf("once-%d-%d", os.Getpid(), time.Now().UnixNano()) }

// find finds the process of a program with the token among its arguments, which is in a container.
func find(s *stage.Test, program, token string) (pid int) {
	s.Helper()
	s.Eventually("the program runs", func() bool {
		processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, path := range processes {
			text, err := os.ReadFile(path)
			if err == nil && strings.HasPrefix(string(text), "/bin/"+program+"\x00") && strings.Contains(string(text), token) {
				pid, err = strconv.Atoi(filepath.Base(filepath.Dir(path)))
				return err == nil
			}
		}
		return false
	})
	return pid
}

func stopper(s *stage.Test, pid int) (hold, release func()) {
	process, err := os.FindProcess(pid) // a pidfd
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { process.Release() })
	return func() { process.Signal(unix.SIGSTOP) }, func() { process.Signal(unix.SIGCONT) }
}

// freezer puts the process into a cgroup of the test's (cgroups(7)).
func freezer(s *stage.Test, pid int) (hold, release func()) {
	f := newFreezer(s, pid)
	return func() { f.write(f.on) }, func() { f.write(f.off) }
}

// freezerCgroup is a cgroup of the test's with one process.
type freezerCgroup struct{ dir, file, on, off, state, frozen string }

func newFreezer(s *stage.Test, pid int) *freezerCgroup {
	f := &freezerCgroup{s.Cgroup("freezer"), "freezer.state", "FROZEN", "THAWED", "freezer.state", "FROZEN\n"}
	if _, err := os.Stat(filepath.Join(f.dir, f.file)); err != nil {
		f.file, f.on, f.off, f.state, f.frozen = "cgroup.freeze", "1", "0", "cgroup.events", "frozen 1\n"
	}
	if err := os.WriteFile(filepath.Join(f.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		f.write(f.off)
		os.WriteFile(filepath.Join(filepath.Dir(f.dir), "cgroup.procs"), []byte(strconv.Itoa(pid)), 0) // it may have ended
	})
	return f
}

func (f *freezerCgroup) write(state string) {
	os.WriteFile(filepath.Join(f.dir, f.file), []byte(state), 0)
}

func (f *freezerCgroup) isFrozen() bool {
	text, err := os.ReadFile(filepath.Join(f.dir, f.state))
	return err == nil && strings.Contains(string(text), f.frozen)
}

// TestNoEINTR has a handler that is not to have calls restarted: a call that the broker has received does not fail with
// EINTR, which mknod(2) never does.
func TestNoEINTR(t *testing.T) {
	require.Root(t)
	require.Kernel(t, "5.19", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")
	for _, k := range kinds {
		if k.killable {
			t.Run(k.name, func(t *testing.T) {
				if said := other(t, k, "waiting", 0); said != "ok" {
					t.Error(said)
				}
			})
		}
	}
}

// TestOtherCalls has a call be interrupted, and changes it before it is restarted: in the handler, or by a program that
// has the caller's thread id next. The answer of the first call is not for those.
func TestOtherCalls(t *testing.T) {
	for _, k := range kinds {
		if k.killable {
			continue
		}
		for _, what := range []string{"nothing", "interrupted", "memory", "directory", "descriptor", "credentials", "threads", "exec"} {
			for moment, sleep := range map[string]time.Duration{"at work": 0, "answered": 2 * workTime} {
				t.Run(k.name+"/"+what+"/"+moment, func(t *testing.T) {
					t.Parallel()
					require.Root(t)
					if said := other(t, k, what, sleep); said != "ok" {
						t.Error(said)
					}
				})
			}
		}
	}
}

// workTime is how long a plugin is at work on a call of testdata/other.c after the signal: usually the broker has more
// time than it needs to receive the restarted call, whose result is the same if it has not.
const workTime = 300 * time.Millisecond

// other runs testdata/other.c, and returns what it says.
func other(t *testing.T, k kind, what string, sleep time.Duration) string {
	s := stage.New(t, nil)
	d := s.Serve(stage.Setup{Config: config})
	token := newToken()
	p := s.Start(k.command(d, nil, "other", what, strconv.Itoa(int(sleep.Milliseconds())), token))
	if line := p.Line(); line != "ready" {
		return line
	}
	pid := find(s, "other", token)
	process, err := os.FindProcess(pid) // a pidfd
	if err != nil {
		s.Fatal(err)
	}
	defer process.Release()
	thaw := freeze(s, d.Plugin("mknod"))
	fmt.Fprintln(p.In)
	s.Eventually("the broker has received the call", func() bool { return inflight(d) > 0 })
	process.Signal(unix.SIGALRM)
	if !k.killable { // one that takes the signal has left its call
		s.Eventually("the caller takes the signal", func() bool { return !isPending(s, pid, unix.SIGALRM) })
	}
	time.Sleep(workTime)
	thaw()
	return p.Line()
}

func inflight(d *stage.Daemon) (calls int) {
	for _, c := range d.Status().Containers {
		calls += c.Inflight
	}
	return calls
}

// freeze freezes a process, and waits until it is. The broker would kill one that is stopped.
func freeze(s *stage.Test, pid int) (thaw func()) {
	s.Helper()
	f := newFreezer(s, pid)
	f.write(f.on)
	s.Eventually("the process is frozen", f.isFrozen)
	return func() { f.write(f.off) }
}

// isPending reports whether the process has not yet taken a signal that was sent to it (proc_pid_status(5)).
func isPending(s *stage.Test, pid int, signal unix.Signal) bool {
	s.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		s.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nShdPnd:\t")
	word, _, _ := strings.Cut(rest, "\n")
	set, err := strconv.ParseUint(word, 16, 64)
	if err != nil {
		s.Fatalf("the pending signals of process %d: %v", pid, err)
	}
	return set&(1<<(signal-1)) != 0
}
