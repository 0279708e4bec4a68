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

// TestTurns has a container wait for its user's turn. When the daemon ends it waits no longer, so that the next one can
// go on with it.
func TestTurns(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	b.turns.root = pace{burst: 1, second: 1. / 3600}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	root := uint32(0)
	attach := func(id string) (*testcaller.Caller, <-chan error) {
		c := testcaller.Start(t, 0)
		attached, claim := make(chan error, 1), container.Claim{ID: id, Runtime: "test", PID: c.PID, PeerUID: &root}
		listener := c.Listener(t, unix.SYS_GETPPID)
		go func() { attached <- b.Attach(ctx, listener, claim) }()
		return c, attached
	}
	first, attached := attach("first")
	if err := <-attached; err != nil {
		t.Fatal(err)
	}
	want(t, ask(t, first, testplugin.Return, 1), 1, 0)

	second, attached := attach("second")
	eventually(t, "the second container is known", func() bool { return len(b.Status()) == 2 })
	call := begin(second, testplugin.Return, 2)
	select {
	case err := <-attached:
		t.Fatalf("the second of one container an hour was attached at once: %v", err)
	case r := <-call:
		t.Fatalf("its call was answered: %+v", r)
	case <-time.After(100 * time.Millisecond):
	}
	end()
	if err := <-attached; err != nil {
		t.Fatal(err)
	}
	want(t, testcaller.Await(t, call), 2, 0)
	b.log.await(t, 1, "listener attached", `"waited"`)
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
