package wire

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// put keeps a value, and returns why it was refused.
func put(s *Store, key string, size int) string {
	return s.Keep(&Keep{Key: []byte(key), Value: make([]byte, size)}).GetRefused()
}

func TestStore(t *testing.T) {
	changes := 0
	s := &Store{OnChange: func() { changes++ }}
	want := func(what, refused, words string, changed int) {
		t.Helper()
		if (words == "") != (refused == "") || !strings.Contains(refused, words) || changes != changed {
			t.Errorf("%s: refused %q, want %q; %d changes, want %d", what, refused, words, changes, changed)
		}
	}
	want("a key", put(s, "a", 10), "", 1)
	want("the same", put(s, "a", 10), "", 1)
	want("another value", put(s, "a", 11), "", 2)
	want("no key", put(s, "", 1), "a key of 0 bytes", 2)
	want("a long key", put(s, strings.Repeat("k", 256), 1), "a key of 256 bytes", 2)
	want("as long as may be", put(s, strings.Repeat("k", 255), 0), "", 3)
	want("too much", put(s, "b", maxKeptSize-12-255), "65537 bytes would be kept", 3)
	want("all that there is room for", put(s, "b", maxKeptSize-12-255-1), "", 4)
	want("one more in its place", put(s, "a", 12), "65537 bytes would be kept", 4)
	want("less in its place", put(s, "a", 0), "", 5)
	want("forget", s.Keep(&Keep{Key: []byte("b"), Forget: true}).GetRefused(), "", 6)
	want("forget what is not there", s.Keep(&Keep{Key: []byte("b"), Forget: true}).GetRefused(), "", 6)
	copied := &Store{}
	copied.Restore(s.Snapshot())
	if entries := copied.Entries(); len(entries) != 2 || string(entries[0].GetKey()) != "a" || copied.size != s.size {
		t.Errorf("restored %v, %d bytes instead of %d", entries, copied.size, s.size)
	}
}

func TestStoreEntries(t *testing.T) {
	s := &Store{}
	for i := range maxKeptEntries {
		if refused := put(s, fmt.Sprint(i), 0); refused != "" {
			t.Fatal(refused)
		}
	}
	if refused := put(s, "more", 0); !strings.Contains(refused, "4096 entries are kept") {
		t.Errorf("refused %q", refused)
	}
	if refused := put(s, "7", 1); refused != "" {
		t.Error(refused)
	}
}

// TestStoreCopies has a value change after it was kept.
func TestStoreCopies(t *testing.T) {
	s, value := &Store{}, []byte("abc")
	s.Keep(&Keep{Key: []byte("k"), Value: value})
	value[0] = 'x'
	if !bytes.Equal(s.Snapshot()["k"], []byte("abc")) {
		t.Error("it changes with what it was made of")
	}
}
