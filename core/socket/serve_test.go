package socket

import "testing"

// Users that take all that they get leave something to the next, and a quarter to root.
func TestShares(t *testing.T) {
	const most = 512
	s := newShares(most)
	take := func(uid uint32) (n int) {
		for s.enter(uid) {
			n++
		}
		return n
	}
	for i, want := range []int{192, 96, 48, 24, 12, 6, 3, 2, 1} {
		if got := take(uint32(1000 + i)); got != want {
			t.Errorf("user %d has %d connections, want %d", i, got, want)
		}
	}
	if s.free != 0 {
		t.Errorf("%d are free, want 0", s.free)
	}
	if !s.enter(0) {
		t.Error("root gets none")
	}
	s.leave(0)
	for range 192 {
		s.leave(1000)
	}
	if _, there := s.held[1000]; there || s.free != 192 {
		t.Errorf("after its connections %d are free, %v", s.free, s.held)
	}
	if got := take(2000); got != 96 {
		t.Errorf("a user after that has %d, want 96", got)
	}
}

func TestSharesOfFew(t *testing.T) {
	for _, most := range []int{1, 2, 4} {
		if s := newShares(most); !s.enter(1000) {
			t.Errorf("of %d a user gets none", most)
		}
	}
}
