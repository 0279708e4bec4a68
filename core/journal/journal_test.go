package journal

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"github.com/intercede/intercede/internal/notify"
)

// The layout is what other versions find in the file.
func TestLayout(t *testing.T) {
	var s Slot
	for name, got := range map[string][2]uintptr{
		"slot":         {unsafe.Sizeof(s), 256},
		"packet":       {unsafe.Offsetof(s.Packet), 40},
		"notification": {unsafe.Offsetof(s.Packet) + unsafe.Offsetof(s.Packet.Notification), 72},
		"a packet":     {unsafe.Sizeof(s.Packet), 136},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %d, want %d", name, got[0], got[1])
		}
	}
}

// What one broker has noted, the next one finds, and the one after it as long as the call is not over.
func TestSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, left, err := Open(path, 4)
	if err != nil || len(left) != 0 {
		t.Fatalf("%d calls in a new journal, %v", len(left), err)
	}
	received := time.Unix(5, 7)
	for i, to := range []State{Free, Expected, Asked, Decided} {
		s := j.Take()
		s.Expect(uint64(i))
		s.Packet.Notification = notify.Notification{ID: uint64(100 + i), Args: [6]uint64{5: uint64(i)}}
		s.Received(received)
		if to >= Asked {
			s.Ask(3)
		}
		if to >= Decided {
			s.Decide(Errno, 17)
		}
		if to == Free {
			s.Clear()
		}
	}
	j.Take().Expect(9) // not in the file; and nothing was received

	for range 2 {
		if _, left, err = Open(path, 2); err != nil || len(left) != 3 {
			t.Fatalf("%d calls are left, %v: want 3", len(left), err)
		}
	}
	for _, s := range left {
		i := s.Source()
		n := s.Packet.Notification
		if n.ID != 100+i || n.Args[5] != i || !s.Since().Equal(received) || s.State() != State(i) {
			t.Errorf("slot %d: state %d, since %v, %+v", i, s.State(), s.Since(), n)
		}
		if s.State() >= Asked && s.Plugin() != 3 {
			t.Errorf("plugin %d, want 3", s.Plugin())
		}
		if kind, value := s.Answer(); s.State() == Decided && (kind != Errno || value != 17) {
			t.Errorf("answer %d %d, want errno 17", kind, value)
		}
	}
	j, left, err = Open(path, 8)
	if err != nil || len(left) != 3 {
		t.Fatalf("%d calls are left of a journal that grows, %v: want 3", len(left), err)
	}
	j.Give(left[0])
	if _, left, _ = Open(path, 8); len(left) != 2 {
		t.Errorf("%d calls are left, want 2", len(left))
	}
}

func TestOtherVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	if err := os.WriteFile(path, append(header()[:headerSize-1], "x another"...), 0o600); err != nil {
		t.Fatal(err)
	}
	j, left, err := Open(path, 4)
	if !errors.Is(err, ErrVersion) || j == nil || len(left) != 0 {
		t.Fatalf("%v, %d calls: want ErrVersion and a new journal", err, len(left))
	}
	if _, _, err := Open(path, 4); err != nil {
		t.Errorf("the journal that replaces it: %v", err)
	}
}

// A journal without a file, or with too few slots, has slots all the same.
func TestMemoryAlone(t *testing.T) {
	var j Journal
	a, b := j.Take(), j.Take()
	if a == b {
		t.Error("one slot for two threads")
	}
	j.Give(a)
	if used, size := j.Use(); used != 0 || size != 0 {
		t.Errorf("%d of %d slots of no file are used", used, size)
	}
}

func TestUse(t *testing.T) {
	j, _, err := Open(filepath.Join(t.TempDir(), "journal"), 2)
	if err != nil {
		t.Fatal(err)
	}
	a, b, beyond := j.Take(), j.Take(), j.Take()
	if used, size := j.Use(); used != 2 || size != 2 {
		t.Errorf("%d of %d slots are used, want 2 of 2", used, size)
	}
	for _, s := range []*Slot{a, b, beyond} {
		j.Give(s)
	}
	if used, size := j.Use(); used != 0 || size != 2 {
		t.Errorf("%d of %d slots are used, want 0 of 2", used, size)
	}
}
