package wire

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sync"
)

const (
	// maxKeptSize bounds the keys and values that a plugin keeps about a container, in bytes.
	maxKeptSize = 64 << 10
	// maxKeptEntries bounds their number.
	maxKeptEntries = 4096
	// maxKeptKey bounds a key, in bytes.
	maxKeptKey = 255
)

// Store is what a plugin keeps about a container, beyond the death of its process. The zero Store is empty. Its methods
// may be called concurrently.
type Store struct {
	// OnChange is called after each change, before the plugin hears of it; nil: nobody is told.
	OnChange func()

	mu      sync.Mutex
	entries map[string][]byte // values are never changed
	size    int
}

// Keep does what the plugin asks for, and answers it.
func (s *Store) Keep(question *Keep) *Kept {
	changed, err := s.apply(string(question.GetKey()), question.GetValue(), question.GetForget())
	if err != nil {
		return &Kept{Refused: err.Error()}
	}
	if changed && s.OnChange != nil {
		s.OnChange()
	}
	return &Kept{}
}

// apply stores the value, or forgets the entry, and reports whether that changes anything.
func (s *Store) apply(key string, value []byte, forget bool) (changed bool, err error) {
	if len(key) == 0 || len(key) > maxKeptKey {
		return false, fmt.Errorf("a key of %d bytes: want 1 to %d", len(key), maxKeptKey)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, there := s.entries[key]
	if forget {
		s.remove(key)
		return there, nil
	}
	if there && bytes.Equal(old, value) {
		return false, nil
	}
	size := s.size + len(key) + len(value)
	if there {
		size -= len(key) + len(old)
	}
	switch {
	case size > maxKeptSize:
		return false, fmt.Errorf("%d bytes would be kept about the container: the limit is %d", size, maxKeptSize)
	case !there && len(s.entries) >= maxKeptEntries:
		return false, fmt.Errorf("%d entries are kept about the container, which is the limit", len(s.entries))
	}
	if s.entries == nil {
		s.entries = map[string][]byte{}
	}
	s.entries[key], s.size = bytes.Clone(value), size
	return true, nil
}

// remove removes an entry, if there is one. The store is locked.
func (s *Store) remove(key string) {
	if value, there := s.entries[key]; there {
		delete(s.entries, key)
		s.size -= len(key) + len(value)
	}
}

// Snapshot returns the entries as they are. The values must not be changed.
func (s *Store) Snapshot() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.entries)
}

// Restore fills a new store with the entries of an earlier one. It takes them over.
func (s *Store) Restore(entries map[string][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries, s.size = entries, 0
	for key, value := range entries {
		s.size += len(key) + len(value)
	}
}

// Entries are the snapshot for a plugin, in the order of their keys.
func (s *Store) Entries() []*Entry {
	entries := s.Snapshot()
	var list []*Entry
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		list = append(list, &Entry{Key: []byte(key), Value: entries[key]})
	}
	return list
}
