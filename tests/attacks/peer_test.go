package attacks

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/intercede/intercede/tests/stage"
)

// peer starts testdata/peer.c as a user of the host.
func (d *daemon) peer(user uint32, what string, count int, during time.Duration) *stage.Process {
	cmd := exec.Command(stage.Program("peer"), what, d.Socket(), strconv.Itoa(count), seconds(during))
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	return d.attack.Start(cmd)
}

// twoNumbers waits for the end of a peer.
func (a *attack) twoNumbers(p *stage.Process) (first, second int) {
	a.Helper()
	words := p.Wait()
	if n, err := fmt.Sscan(words, &first, &second); n != 2 {
		a.Fatalf("%q: %v", words, err)
	}
	return first, second
}

// TestHarmAttach attaches and detaches containers, of root and of a user, and looks for what is left of them. Processes
// are the same without the daemon, to compare with.
func TestHarmAttach(t *testing.T) {
	for _, test := range []struct {
		name, what string
		user       uint32
	}{{"root", "attach", 0}, {"user", "attach", 1000}, {"processes", "processes", 0}} {
		t.Run(test.name, func(t *testing.T) {
			a := newAttack(t)
			d := a.serve(stage.Setup{Config: nodes, Open: true})
			b := d.bystander()
			d.peer(test.user, test.what, 100, short()).Wait() // what is kept for later is there
			a.Eventually("the first containers are gone", func() bool { return len(d.Status().Containers) == 1 })
			descriptors, memory := d.descriptors(), d.memory()
			done, failed := a.twoNumbers(d.peer(test.user, test.what, min(attempts, 4000), short()))
			summary.add("%s: %d containers, %d calls failed", a.Name(), done, failed)
			if failed > 0 {
				a.succeeded("%d of %d containers had no answer", failed, done+failed)
			}
			b.judge()
			a.Eventually("the containers are gone", func() bool { return len(d.Status().Containers) <= 1 })
			d.checkDescriptors(descriptors)
			if now := d.memory(); now > memory+32<<20 {
				a.succeeded("the daemon and its plugins have %d MiB, had %d", now>>20, memory>>20)
			}
		})
	}
}

// TestHarmSocket has a user of the host send garbage and nothing at all, while root and another user attach containers.
func TestHarmSocket(t *testing.T) {
	a := newAttack(t)
	d := a.serve(stage.Setup{Config: nodes, Open: true})
	b := d.bystander()
	before := d.descriptors()
	silent := d.peer(1000, "silent", 1000, short())
	silent.Line()
	garbage := d.peer(1000, "garbage", attempts, short())
	d.bystander().process.Kill() // it was attached and answered
	if done, failed := a.twoNumbers(d.peer(1001, "attach", 50, short())); failed > 0 {
		a.succeeded("%d of %d containers of another user had no answer", failed, done+failed)
	}
	sent, _ := a.twoNumbers(garbage)
	summary.add("%s: %d messages", a.Name(), sent)
	silent.Kill()
	b.judge()
	d.checkDescriptors(before)
	d.CheckPlugins()
}

// TestHarmDescriptors has more containers than the daemon has descriptors for: those that are there keep what they
// have, and none gets a listener that nobody reads.
func TestHarmDescriptors(t *testing.T) {
	a := newAttack(t)
	d := a.serve(stage.Setup{Config: nodes, Wrapper: []string{"sh", "-c", `ulimit -n 256; exec "$@"`, "sh"}})
	b := d.bystander()
	words := d.peer(0, "hold", 300, short()).Wait()
	var answered, waiting, failed int
	if n, err := fmt.Sscan(words, &answered, &waiting, &failed); n != 3 {
		t.Fatalf("%q: %v", words, err)
	}
	summary.add("%s: %d containers were served, %d waited, %d got errors", a.Name(), answered, waiting, failed)
	if failed > 0 {
		a.succeeded("%d of %d containers got errors", failed, answered+waiting+failed)
	}
	b.judge()
	d.CheckPlugins()
}

// processes are the daemon and its plugins.
func (d *daemon) processes() map[string]int {
	d.attack.Helper()
	s := d.Status()
	pids := map[string]int{"the daemon": s.PID}
	for _, p := range s.Plugins {
		if p.PID != 0 {
			pids["plugin "+p.Name] = p.PID
		}
	}
	return pids
}

// descriptors is how many each has open.
func (d *daemon) descriptors() map[string]int {
	d.attack.Helper()
	open := map[string]int{}
	for name, pid := range d.processes() {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			d.attack.Fatal(err)
		}
		open[name] = len(entries)
	}
	return open
}

// checkDescriptors notes descriptors that stay open for longer than they may.
func (d *daemon) checkDescriptors(before map[string]int) {
	d.attack.Helper()
	const kept = 70 // idle lanes and threads
	more := func() (names []string) {
		for name, n := range d.descriptors() {
			if n > before[name]+kept {
				names = append(names, fmt.Sprintf("%s has %d descriptors open, had %d", name, n, before[name]))
			}
		}
		return names
	}
	for end := time.Now().Add(stage.Patience); time.Now().Before(end) && len(more()) > 0; time.Sleep(100 * time.Millisecond) {
	}
	if names := more(); len(names) > 0 {
		d.attack.succeeded("%s", strings.Join(names, ", "))
	}
}

// memory is what all of them have of it, in bytes.
func (d *daemon) memory() (sum int) {
	d.attack.Helper()
	for _, pid := range d.processes() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		var size, resident int
		if n, _ := fmt.Sscan(string(text), &size, &resident); n != 2 {
			d.attack.Fatalf("statm: %v: %q", err, text)
		}
		sum += resident * os.Getpagesize()
	}
	return sum
}
