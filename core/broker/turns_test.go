package broker

import (
	"context"
	"testing"
	"time"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"golang.org/x/sys/unix"
)

// oneAnHour has root attach one container, and then one an hour.
var oneAnHour = pace{burst: 1, second: 1. / 3600}

// attachInTurn attaches a container of root when it is its turn, or ctx is done.
func (b *bench) attachInTurn(ctx context.Context, t *testing.T, id string) (*testcaller.Caller, <-chan error) {
	c, root := testcaller.Start(t, 0), uint32(0)
	attached, claim := make(chan error, 1), container.Claim{ID: id, Runtime: "test", PID: c.PID, PeerUID: &root}
	listener, broker := c.Listener(t, unix.SYS_GETPPID), b.Broker
	go func() { attached <- broker.Attach(ctx, listener, claim) }()
	return c, attached
}

// attachTwo attaches a container of root and begins to attach a second, whose turn does not come. It returns both, a
// call of the second that asks for its plugin's process, and what its Attach will return.
func (b *bench) attachTwo(ctx context.Context, t *testing.T) (
	callers [2]*testcaller.Caller, call <-chan testcaller.Result, attached <-chan error,
) {
	t.Helper()
	b.turns.root = oneAnHour
	callers[0], attached = b.attachInTurn(ctx, t, "first")
	if err := <-attached; err != nil {
		t.Fatal(err)
	}
	want(t, ask(t, callers[0], testplugin.Return, 1), 1, 0)

	callers[1], attached = b.attachInTurn(ctx, t, "second")
	eventually(t, "the second container is known", func() bool { return len(b.Status()) == 2 })
	call = begin(callers[1], testplugin.Identify)
	select {
	case err := <-attached:
		t.Fatalf("the second of one container an hour was attached at once: %v", err)
	case r := <-call:
		t.Fatalf("its call was answered: %+v", r)
	case <-time.After(100 * time.Millisecond):
	}
	return callers, call, attached
}

// TestTurns has a container wait for its user's turn. When the daemon ends it waits no longer, so that the next one can
// go on with it.
func TestTurns(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	ctx, end := context.WithCancel(t.Context())
	defer end()
	_, call, attached := b.attachTwo(ctx, t)
	end()
	if err := <-attached; err != nil {
		t.Fatal(err)
	}
	want(t, testcaller.Await(t, call), int64(b.runningPID(t, "trial")), 0)
	b.log.await(t, 1, "listener attached", `"waited"`)
}

// TestAdoptBeforeItsTurn has the daemon end as by SIGKILL while a container waits for its turn: the next daemon goes on
// with it at once.
func TestAdoptBeforeItsTurn(t *testing.T) {
	l := newLineage(t, options{})
	l.next(t)
	callers, call, _ := l.attachTwo(t.Context(), t)
	eventually(t, "the store has both containers", func() bool { return l.shelf.count() == 4 })
	l.next(t)
	want(t, testcaller.Await(t, call), int64(l.runningPID(t, "trial")), 0)
	for _, c := range callers {
		want(t, ask(t, c, testplugin.Return, 3), 3, 0)
		c.Kill()
	}
}

// TestApplyBeforeItsTurn gives a container another policy while it waits for its turn: its first call has the new one.
func TestApplyBeforeItsTurn(t *testing.T) {
	t.Parallel()
	b := newBench(t, named("trial", "other_errno"))
	b.SetGeneration(b.newGeneration(named("trial")))
	ctx, end := context.WithCancel(t.Context())
	defer end()
	_, call, attached := b.attachTwo(ctx, t)
	applied := b.give(t, named("other_errno"))
	if len(applied) != 2 {
		t.Fatalf("%+v, want both containers", applied)
	}
	for _, a := range applied {
		wantApplied(t, a, "[other_errno] [] [trial] [] []")
	}
	end()
	if err := <-attached; err != nil {
		t.Fatal(err)
	}
	want(t, testcaller.Await(t, call), int64(b.runningPID(t, "other_errno")), 0)
}

// TestTurnsOfUsers has users take no turns of others, and forgets those who have all of theirs.
func TestTurnsOfUsers(t *testing.T) {
	t.Parallel()
	users := &turns{user: pace{burst: 3, second: 1. / 3600}}
	for uid := uint32(1); uid < 10*maxTurns; uid++ {
		if delay := users.reserve(uid); delay != 0 {
			t.Fatalf("the first container of user %d waits for %v", uid, delay)
		}
		if uid != 1 {
			users.users[uid].SetBurst(2) // it has all its turns
		}
	}
	if n := len(users.users); n > maxTurns {
		t.Errorf("%d users are known, want at most %d", n, maxTurns)
	}
	users.reserve(1)
	users.reserve(1)
	if delay := users.reserve(1); delay < time.Minute {
		t.Errorf("the fourth of three containers of an hour waits for %v", delay)
	}
}
