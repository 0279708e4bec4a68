package broker

import (
	"errors"
	"strings"
	"testing"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"golang.org/x/sys/unix"
)

func TestClaims(t *testing.T) {
	root, one, two := saidBy{root: true, bytes: maxClaim}, saidBy{uid: 1, bytes: maxClaim}, saidBy{uid: 2, bytes: maxClaim}
	c := &claims{}
	fill := func(s saidBy) (n int) {
		for c.use(s) == nil {
			n++
		}
		return n
	}
	if n := fill(one); n != maxUserClaims/maxClaim {
		t.Errorf("one user has %d, want %d", n, maxUserClaims/maxClaim)
	}
	if n := fill(two); n != maxUserClaims/maxClaim {
		t.Errorf("another has %d, want %d", n, maxUserClaims/maxClaim)
	}
	for uid := uint32(3); uid < 100; uid++ {
		fill(saidBy{uid: uid, bytes: maxClaim})
	}
	if c.users != maxUsersClaims {
		t.Errorf("all users have %d, want %d", c.users, maxUsersClaims)
	}
	if n := fill(root); n != (maxClaims-maxUsersClaims)/maxClaim {
		t.Errorf("root has %d beside them, want %d", n, (maxClaims-maxUsersClaims)/maxClaim)
	}
	c.adopt(root) // whatever there is
	c.free(root)
	c.free(one)
	if err := c.use(two); !errors.Is(err, ErrClaims) {
		t.Errorf("a user has the place of another: %v", err)
	}
	if err := errors.Join(c.use(one), (&claims{}).use(root)); err != nil {
		t.Error(err)
	}
	if err := (&claims{}).use(saidBy{root: true, bytes: maxClaim + 1}); !errors.Is(err, ErrClaims) {
		t.Errorf("got %v", err)
	}
	for range maxUserClaims / maxClaim {
		c.free(one)
	}
	if _, known := c.user[1]; known {
		t.Error("a user without containers is remembered")
	}
}

// A container of which too much is said is not attached, and nothing of it is left. What must be escaped counts as
// JSON.
func TestAttachClaims(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	caller := testcaller.Start(t, 0)
	long := map[string]string{"a": strings.Repeat("<", maxClaim/6)}
	claim := container.Claim{ID: "long", Runtime: "test", PID: caller.PID, Annotations: long}
	if err := b.CheckRoom(claim); !errors.Is(err, ErrClaims) {
		t.Errorf("CheckRoom: %v", err)
	}
	if err := b.Attach(t.Context(), caller.Listener(t, unix.SYS_GETPPID), claim); !errors.Is(err, ErrClaims) {
		t.Errorf("Attach: %v", err)
	}
	want(t, ask(t, caller, testplugin.Return, 1), 0, unix.ENOSYS)
	if b.claims.all != 0 || b.usedDescriptors() != 0 {
		t.Errorf("%d bytes and %d descriptors are taken", b.claims.all, b.usedDescriptors())
	}
	other := b.attach(t)
	want(t, ask(t, other, testplugin.Return, 1), 1, 0)
	other.Kill()
	eventually(t, "nothing is counted", func() bool {
		b.claims.mu.Lock()
		defer b.claims.mu.Unlock()
		return b.claims.all == 0
	})
}
