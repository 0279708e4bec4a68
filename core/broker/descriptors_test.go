package broker

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/internal/lane"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// TestAttachWithoutDescriptors has descriptors for two containers, one of which has two listeners.
func TestAttachWithoutDescriptors(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	b.descriptors.most = 2*descriptorsPerContainer + 3*descriptorsPerListener
	first := testcaller.Start(t, 1)
	b.attachCaller(t, first, "first")
	b.attachCaller(t, first.Session[0], "first")
	second := b.attach(t)
	third := testcaller.Start(t, 0)
	claim := container.Claim{ID: "third", Runtime: "test", PID: third.PID}
	if err := b.Attach(t.Context(), third.Listener(t, unix.SYS_GETPPID), claim); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	want(t, ask(t, third, testplugin.Return, 1), 0, unix.ENOSYS)
	for _, c := range []*testcaller.Caller{first, first.Session[0], second} {
		want(t, ask(t, c, testplugin.Return, 1), 1, 0)
	}
	second.Kill()
	eventually(t, "there is room", func() bool { return b.usedDescriptors() == descriptorsPerContainer+2*descriptorsPerListener })
	want(t, ask(t, b.attach(t), testplugin.Return, 1), 1, 0)
	first.Kill()
	eventually(t, "there is room", func() bool { return b.usedDescriptors() == descriptorsPerContainer+descriptorsPerListener })
}

func (b *bench) usedDescriptors() int {
	b.descriptors.mu.Lock()
	defer b.descriptors.mu.Unlock()
	return b.descriptors.used
}

// TestRoom checks that what a connection was promised is there for its container, whatever others take.
func TestRoom(t *testing.T) {
	d := newDescriptors(10_000, 10, 1, 1, zerolog.Nop())
	if want := 10_000 - 64 - 10*12 - 2*12 - lane.MaxLanes() - 12 - 16; d.most != want {
		t.Errorf("%d are for containers, want %d", d.most, want)
	}
	d.most = descriptorsPerArrival + descriptorsPerContainer + descriptorsPerListener
	room := &Room{d, descriptorsPerArrival, "of runtimes"}
	if !room.TryTake() || room.TryTake() {
		t.Error("there is room for none, or for two")
	}
	if err := errors.Join(d.use(descriptorsPerContainer), d.use(descriptorsPerListener)); err != nil {
		t.Error(err)
	}
	room.Give()
	if !room.TryTake() {
		t.Error("the next one does not fit")
	}
	waiting, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := room.Take(waiting); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	time.AfterFunc(10*time.Millisecond, room.Give)
	if err := room.Take(t.Context()); err != nil {
		t.Error(err)
	}
	if d := newDescriptors(100, 10, 6, 8, zerolog.Nop()); d.most != 0 || !errors.Is(d.use(1), ErrFull) {
		t.Errorf("%d of 100 are for containers", d.most)
	}
}
