package attacks

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/intercede/intercede/tests/stage"
	"golang.org/x/sys/unix"
)

// TestExecRace has a caller without privileges be another program, with all of them, at any moment of its call.
func TestExecRace(t *testing.T) {
	for _, call := range []string{"mknod", "setxattr", "mount", "fuse", "sched", "nice", "bpf", "sysinfo"} {
		t.Run(call, func(t *testing.T) {
			t.Run("undisturbed", func(t *testing.T) {
				a := newAttack(t)
				a.race(a.serve(stage.Setup{Config: stage.Everything}), "exec", quickly(call))
			})
			t.Run("delayed", func(t *testing.T) {
				a := newAttack(t)
				a.race(a.serve(held()), "exec", slowly(call))
			})
		})
	}
	for _, call := range []string{"mknod", "sysinfo"} {
		t.Run(call+" of i386", func(t *testing.T) {
			a := newAttack(t)
			a.race(a.serve(held()), "exec32", slowly(call))
		})
	}
}

// held has calls held up at every step, for half a millisecond on average: see internal/pause.
func held() stage.Setup {
	return stage.Setup{Config: stage.Everything, Programs: stage.Delayed, Delays: "1ms"}
}

// quickly is a race with a daemon that is not held up.
func quickly(call string) []string { return raceWords(call, 200*time.Microsecond, 2*time.Millisecond) }

// slowly is a race with a daemon that is held up.
func slowly(call string) []string { return raceWords(call, 8*time.Millisecond, 30*time.Millisecond) }

// raceWords are the arguments of testdata/exec.c.
func raceWords(call string, delay, hold time.Duration) []string {
	return []string{call, "24", strconv.Itoa(attempts), seconds(raceTime()), strconv.Itoa(int(delay)), strconv.Itoa(int(hold))}
}

// TestExecRaceStoppedPlugin is the same, with a plugin that is stopped at any moment for longer than it takes to
// execute a program.
func TestExecRaceStoppedPlugin(t *testing.T) {
	a := newAttack(t)
	d := a.serve(stage.Setup{Config: stage.Everything})
	plugin, err := unix.PidfdOpen(d.Plugin("mknod"), 0)
	if err != nil {
		t.Fatal(err)
	}
	ended, stopped := make(chan struct{}), make(chan int)
	go func() { stopped <- stopAndGo(plugin, ended) }()
	a.race(d, "exec", quickly("mknod"))
	close(ended)
	if <-stopped == 0 {
		t.Error("the plugin was not stopped")
	}
}

// stopAndGo stops a process again and again, and gives how often it did. It closes the pidfd.
func stopAndGo(pidfd int, ended <-chan struct{}) (times int) {
	defer unix.Close(pidfd)
	for {
		select {
		case <-ended:
			return times
		case <-time.After(300 * time.Microsecond):
		}
		if unix.PidfdSendSignal(pidfd, unix.SIGSTOP, nil, 0) != nil {
			return times
		}
		times++
		time.Sleep(500 * time.Microsecond)
		unix.PidfdSendSignal(pidfd, unix.SIGCONT, nil, 0)
	}
}

// race attacks a call by testdata/exec.c in a container.
func (a *attack) race(d *daemon, program string, words []string) {
	a.Helper()
	c := d.Container("--device-cgroup-rule", "b *:* rw")
	a.PutDisk(filepath.Join(c.Root, "disk"))
	a.judgeRace(c.Run(program, words...))
}

// judgeRace reads what testdata/exec.c printed.
func (a *attack) judgeRace(words string) {
	a.Helper()
	var gained, executed, refused, succeeded, stray int
	if n, err := fmt.Sscan(words, &gained, &executed, &refused, &succeeded, &stray); n != 5 {
		a.Fatalf("%v: %q", err, words)
	}
	summary.add("%s: %d of %d gained something; %d calls ended before", a.Name(), gained, executed, refused+succeeded)
	if gained > 0 {
		a.succeeded("%d of %d attempts gained something", gained, executed)
	}
	if executed == 0 || stray > 0 {
		a.Errorf("%d attempts executed the program, %d ended otherwise", executed, stray)
	}
}

// seconds is a time as the attackers' programs take it.
func seconds(d time.Duration) string { return strconv.Itoa(max(int(d.Seconds()), 1)) }
