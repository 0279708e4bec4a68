package broker

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/core/journal"
	"github.com/intercede/intercede/core/keep"
	"github.com/intercede/intercede/core/record"
	"github.com/intercede/intercede/internal/notify"
	"golang.org/x/sys/unix"
)

// shelf is a descriptor store of the test's process.
type shelf struct {
	mu    sync.Mutex
	files map[string]*os.File
}

func (s *shelf) Put(name string, fd int) error {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files[name] != nil {
		return errors.New("the name is taken: " + name)
	}
	s.files[name] = os.NewFile(uintptr(own), name)
	return nil
}

func (s *shelf) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	file := s.files[name]
	if file == nil {
		return errors.New("there is no " + name)
	}
	delete(s.files, name)
	return file.Close()
}

// handOut gives the next broker duplicates of all that is there.
func (s *shelf) handOut(t *testing.T) (all []keep.Descriptor) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, file := range s.files {
		own, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, keep.Descriptor{Name: name, File: os.NewFile(uintptr(own), name)})
	}
	return all
}

func (s *shelf) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.files)
}

// lineage is brokers that follow each other, with the same plugins.
type lineage struct {
	*bench
	folder string
	shelf  *shelf
}

func newLineage(t *testing.T, o options) *lineage {
	l := &lineage{newBench(t, o), t.TempDir(), &shelf{files: map[string]*os.File{}}}
	l.close()
	t.Cleanup(func() {
		eventually(t, "nothing is left in the store", func() bool { return l.shelf.count() == 0 })
		l.close()
	})
	return l
}

// state opens what there is, as the next broker does.
func (l *lineage) state(t *testing.T) (State, []*record.Record, []*journal.Slot) {
	t.Helper()
	records, left, errs := record.Open(filepath.Join(l.folder, "containers"))
	calls, unfinished, err := journal.Open(filepath.Join(l.folder, "journal"), 64)
	if err = errors.Join(append(errs, err)...); err != nil {
		t.Fatal(err)
	}
	return State{calls, records, l.shelf}, left, unfinished
}

// next has the broker end as if it was killed, but for its threads, and another go on. It returns how many calls that
// has to go on with.
func (l *lineage) next(t *testing.T) int {
	t.Helper()
	if l.Broker != nil {
		before := l.Broker
		before.poller.Close()
		before.workers.Wait() // they would clear slots of the next
		t.Cleanup(before.Close)
	}
	state, records, calls := l.state(t)
	var err error
	if l.Broker, err = New(Config{Generation: l.generation, State: state, Log: l.log.logger()}); err != nil {
		t.Fatal(err)
	}
	containers := l.Sort(records, l.shelf.handOut(t))
	for i := range containers {
		var bindings []Binding
		for _, p := range containers[i].Record.Plugins { // as package daemon does
			bindings = append(bindings, Binding{
				Plugin: l.plugins[p.Name], Settings: string(p.Settings), Deadline: p.Deadline, OnFailure: p.Verdict(),
				Revoked: p.Revoked, Withheld: p.Withheld,
			})
		}
		containers[i].Assignment = Assignment{Bindings: bindings}
	}
	l.Adopt(t.Context(), l.generation, containers, calls)
	return len(calls)
}

func TestAdopt(t *testing.T) {
	l := newLineage(t, options{})
	l.next(t)
	c := l.attach(t)
	want(t, ask(t, c, testplugin.Return, 42), 42, 0)
	before := l.Broker.Status()
	for range 3 {
		if n := l.next(t); n != 0 {
			t.Errorf("%d calls are left, want none", n)
		}
		want(t, ask(t, c, testplugin.Return, 43), 43, 0)
	}
	after := l.Broker.Status()
	if len(after) != 1 || after[0].ID != before[0].ID || !after[0].Attached.Equal(before[0].Attached) || after[0].Listeners != 1 {
		t.Errorf("status %+v, want %+v", after, before)
	}
	second := l.attach(t)
	want(t, ask(t, second, testplugin.Return, 44), 44, 0)
	c.Kill()
	second.Kill()
}

// received has a call of the container that came last received by a broker that ends then, and returns its slot in the
// journal.
func (l *lineage) received(t *testing.T, calls *journal.Journal) *journal.Slot {
	t.Helper()
	number := l.Broker.numbers.last.Load() // of the listener, which came last
	name := NameOf(listenerPrefix, number-1, number)
	slot := calls.Take()
	slot.Expect(number)
	if err := notify.FD(l.shelf.files[name].Fd()).Receive(&slot.Packet.Notification); err != nil {
		t.Fatal(err)
	}
	slot.Received(time.Now())
	return slot
}

// TestAdoptCalls has a broker end with a call in each state.
func TestAdoptCalls(t *testing.T) {
	for name, test := range map[string]struct {
		reach  func(*journal.Slot) // what the broker that ends has done after receiving it
		plugin string
		value  int64
		errno  syscall.Errno
	}{
		"received":                  {func(*journal.Slot) {}, "trial", 42, 0},
		"asked, not to be repeated": {func(s *journal.Slot) { s.Ask(0) }, "trial", 0, unix.EINTR},
		"asked, safe":               {func(s *journal.Slot) { s.Ask(0) }, "trial_safe", 42, 0},
		"asked, to be checked":      {func(s *journal.Slot) { s.Ask(0) }, "trial_check", 42, 0},
		"asked another":             {func(s *journal.Slot) { s.Ask(1) }, "trial", 42, 0},
		"value decided":             {func(s *journal.Slot) { s.Decide(journal.Value, 77) }, "trial", 77, 0},
		"errno decided":             {func(s *journal.Slot) { s.Decide(journal.Errno, int64(unix.EXDEV)) }, "trial", 0, unix.EXDEV},
		"kernel's":                  {func(s *journal.Slot) { s.Decide(journal.Continue, 0) }, "trial", realPPID, 0},
		"answered before":           {nil, "trial", 5, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLineage(t, options{plugins: []string{test.plugin}})
			l.next(t)
			l.Broker.poller.Close() // it receives nothing itself
			l.Broker.workers.Wait()
			calls, _, err := journal.Open(filepath.Join(l.folder, "journal"), 64)
			if err != nil {
				t.Fatal(err)
			}
			c := l.attach(t)
			answer := begin(c, testplugin.Return, 42)
			slot := l.received(t, calls)
			if test.reach == nil {
				slot.Decide(journal.Value, 5)
				fd := l.shelf.files[NameOf(listenerPrefix, slot.Source()-1, slot.Source())].Fd()
				if err := notify.FD(fd).SendValue(slot.Packet.Notification.ID, 5); err != nil {
					t.Fatal(err)
				}
			} else {
				test.reach(slot)
			}
			if n := l.next(t); n != 1 {
				t.Errorf("%d calls are left, want 1", n)
			}
			want(t, testcaller.Await(t, answer), test.value, test.errno)
			want(t, ask(t, c, testplugin.Return, 43), 43, 0)
			l.next(t)
			want(t, ask(t, c, testplugin.Return, 44), 44, 0)
			c.Kill()
		})
	}
}

// TestAdoptInterrupted has a signal take the caller out of a call that the plugin has, and the broker end after it has
// received the call that is made again: the plugin is told that it had it.
func TestAdoptInterrupted(t *testing.T) {
	l := newLineage(t, options{plugins: []string{"trial_safe"}})
	l.next(t)
	l.Broker.poller.Close()
	l.Broker.workers.Wait()
	calls, _, err := journal.Open(filepath.Join(l.folder, "journal"), 64)
	if err != nil {
		t.Fatal(err)
	}
	c := l.attach(t)
	answer := begin(c, testplugin.ExitOnce, 42)
	again := l.received(t, calls)
	first := calls.Take()
	first.Expect(again.Source())
	first.Packet = again.Packet
	first.Packet.Notification.ID-- // which nobody waits for any more
	first.Received(time.Now())
	first.Ask(0)
	pid := l.plugins["trial_safe"].Status().PID
	if n := l.next(t); n != 2 {
		t.Errorf("%d calls are left, want 2", n)
	}
	want(t, testcaller.Await(t, answer), 42, 0)
	if now := l.plugins["trial_safe"].Status().PID; now != pid {
		t.Error("the plugin was not told: it ended")
	}
	c.Kill()
}

// TestAdoptAgain has the plugin told that it had the call, which it does not survive otherwise.
func TestAdoptAgain(t *testing.T) {
	l := newLineage(t, options{plugins: []string{"trial_safe"}})
	l.next(t)
	l.Broker.poller.Close()
	l.Broker.workers.Wait()
	calls, _, err := journal.Open(filepath.Join(l.folder, "journal"), 64)
	if err != nil {
		t.Fatal(err)
	}
	c := l.attach(t)
	answer := begin(c, testplugin.ExitOnce, 42)
	l.received(t, calls).Ask(0)
	pid := l.plugins["trial_safe"].Status().PID
	l.next(t)
	want(t, testcaller.Await(t, answer), 42, 0)
	if now := l.plugins["trial_safe"].Status().PID; now != pid {
		t.Error("the plugin was not told: it ended")
	}
	c.Kill()
}

// TestAdoptKept has a plugin remember something beyond two brokers.
func TestAdoptKept(t *testing.T) {
	l := newLineage(t, options{})
	l.next(t)
	c := l.attach(t)
	want(t, ask(t, c, testplugin.Keep, 5, 33), 0, 0)
	for range 2 {
		l.next(t)
		want(t, ask(t, c, testplugin.Kept, 5), 33, 0)
	}
	want(t, ask(t, c, testplugin.Forget, 5), 0, 0)
	l.next(t)
	want(t, ask(t, c, testplugin.Kept, 5), 0, unix.ENODATA)
	c.Kill()
}

// TestAdoptEnded has a container end while there is no broker, and one lose its descriptors.
func TestAdoptEnded(t *testing.T) {
	l := newLineage(t, options{})
	l.next(t)
	ended, lost := l.attach(t), l.attach(t)
	l.Broker.poller.Close()
	l.Broker.workers.Wait() // one that sees the end would take the container out of the store
	ended.Kill()
	for name := range l.shelf.files {
		if n, ok := ParseName(name, namespacePrefix, 1); ok && n[0] == 3 {
			l.shelf.Remove(name)
			l.shelf.Remove(NameOf(listenerPrefix, 3, 4))
		}
	}
	l.next(t)
	l.log.await(t, 1, "error", "the container is lost")
	eventually(t, "only the lost container's record is left", func() bool {
		files, _ := filepath.Glob(filepath.Join(l.folder, "containers", "*"))
		return len(files) == 1 && filepath.Base(files[0]) == "3.json"
	})
	lost.Kill()
	l.next(t)
	if files, _ := filepath.Glob(filepath.Join(l.folder, "containers", "*")); len(files) > 0 {
		t.Errorf("records %v are left of containers that have ended", files)
	}
}

// TestAdoptWithoutNamespace has the store keep a listener and not the user namespace: the container cannot be adopted,
// and its callers do not wait for ever.
func TestAdoptWithoutNamespace(t *testing.T) {
	l := newLineage(t, options{})
	l.next(t)
	c := l.attach(t)
	l.Broker.poller.Close()
	l.Broker.workers.Wait()
	if err := l.shelf.Remove(NameOf(namespacePrefix, 1)); err != nil {
		t.Fatal(err)
	}
	l.next(t)
	l.log.await(t, 1, "error", "the container is lost")
	if n := l.shelf.count(); n > 0 {
		t.Errorf("%d descriptors are left in the store", n)
	}
	c.Kill()
}
