// Package journal notes the calls in flight in memory that outlives the broker, so that the next one can go on with
// them: the kernel delivers a notification once.
//
// Each thread that handles calls has a [Slot] in a file that is mapped into memory. It writes each step there before it
// takes it, which costs no system call. What a process has written is there however that process ends.
package journal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/intercede/intercede/internal/notify"
	"golang.org/x/sys/unix"
)

// State is how far a call has come. The numbers are part of the file's format.
type State uint32

// The states of a call, in their order.
const (
	Free     State = iota // no call
	Expected              // it may have been received: it has, if its notification has an ID
	Asked                 // a plugin may have acted for the caller
	Decided               // the answer is there, and may have been sent
)

// Kind is what the answer of a decided call is. The numbers are part of the file's format.
type Kind uint32

// The kinds of answers.
const (
	Continue Kind = iota
	Value
	Errno
	Descriptor // which ends with the broker, as the plugin does that it is of
)

// Slot is the call of one thread. Its layout is part of the file's format.
type Slot struct {
	state  atomic.Uint32
	kind   uint32
	source uint64 // where the notification came from, by the broker's number
	value  int64
	since  int64 // when it was received, in ns of CLOCK_REALTIME
	plugin int32
	_      [4]byte
	Packet Packet
	// follower is the ID of a later notification that is answered instead; 0: none is.
	follower atomic.Uint64
	_        [72]byte
}

// Packet is a notification, as a listener or LXC's monitor delivers it: the kernel writes it here, so that there is no
// moment at which a call has been received and is not noted.
type Packet struct {
	Before       [32]byte // of LXC's
	Notification notify.Notification
	After        [24]byte // of LXC's
}

const (
	version  = 1
	slotSize = int(unsafe.Sizeof(Slot{}))
	// headerSize keeps the slots aligned to their size.
	headerSize = slotSize
)

var magic = []byte("intercede journal\n")

// ErrVersion means that the journal was written by a version of intercede with another format.
var ErrVersion = errors.New("not a journal of this version")

// Expect notes that the next notification of a source is received into the slot.
func (s *Slot) Expect(source uint64) {
	s.Packet.Notification = notify.Notification{}
	s.source, s.since = source, 0
	s.follower.Store(0)
	s.state.Store(uint32(Expected))
}

// Received notes when the notification was received.
func (s *Slot) Received(now time.Time) { s.since = now.UnixNano() }

// Ask notes that a plugin, by its number in the container's record, is asked from now on.
func (s *Slot) Ask(plugin int) {
	s.plugin = int32(plugin)
	s.state.Store(uint32(Asked))
}

// Follow notes that a later notification of the same call is answered instead of the one that was received first.
func (s *Slot) Follow(id uint64) { s.follower.Store(id) }

// ID is that of the notification to answer.
func (s *Slot) ID() uint64 { return cmp.Or(s.follower.Load(), s.Packet.Notification.ID) }

// IsAgain reports whether the slot's call is that of an earlier slot, made again by a caller that a signal took out
// of it.
func (s *Slot) IsAgain(before *Slot) bool {
	mine, other := s.Packet.Notification, before.Packet.Notification
	mine.ID, other.ID = 0, 0
	return s.source == before.source && mine == other
}

// TakeOver has the slot's call be as far as that of the earlier slot.
func (s *Slot) TakeOver(before *Slot) {
	s.plugin, s.kind, s.value, s.since = before.plugin, before.kind, before.value, before.since
	s.state.Store(before.state.Load())
}

// Decide notes the answer, which is sent from now on. For an errno, value is positive.
func (s *Slot) Decide(kind Kind, value int64) {
	s.kind, s.value = uint32(kind), value
	s.state.Store(uint32(Decided))
}

// Clear notes that there is no call any more.
func (s *Slot) Clear() { s.state.Store(uint32(Free)) }

// State returns how far the call has come.
func (s *Slot) State() State { return State(s.state.Load()) }

// Bytes is Packet as LXC's monitor sends it.
func (s *Slot) Bytes() *[136]byte { return (*[136]byte)(unsafe.Pointer(&s.Packet)) }

// Source is what Expect was given.
func (s *Slot) Source() uint64 { return s.source }

// Plugin is what Ask was given.
func (s *Slot) Plugin() int { return int(s.plugin) }

// Answer is what Decide was given.
func (s *Slot) Answer() (kind Kind, value int64) { return Kind(s.kind), s.value }

// Since returns when the notification was received; the zero Time if the broker ended before it noted that.
func (s *Slot) Since() time.Time {
	if s.since == 0 {
		return time.Time{}
	}
	return time.Unix(0, s.since)
}

// Journal is a file of slots, or, as its zero value, memory of this process alone. Its methods may be called
// concurrently.
type Journal struct {
	size int // slots in the file

	mu   sync.Mutex
	free []*Slot
}

// Open opens the journal at path, makes room for count slots, and returns the slots with calls of a broker that has
// ended: they belong to the caller, as slots that Take returns. One file must be open once at a time. With ErrVersion
// the file is replaced; what was in it is not known.
func Open(path string, count int) (*Journal, []*Slot, error) {
	j, left, err := open(path, count)
	if err != nil && !errors.Is(err, ErrVersion) {
		return nil, nil, fmt.Errorf("the journal %q: %w", path, err)
	}
	return j, left, err
}

func open(path string, count int) (*Journal, []*Slot, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	unknown := checkHeader(file)
	if unknown != nil {
		if err := file.Truncate(0); err != nil {
			return nil, nil, err
		}
	}
	slots, err := mapSlots(file, count)
	if err != nil {
		return nil, nil, err
	}
	j, left := &Journal{size: len(slots)}, []*Slot(nil)
	for i := range slots {
		s := &slots[i]
		if s.State() == Free || s.Packet.Notification.ID == 0 {
			s.Clear()
			j.free = append(j.free, s)
		} else {
			left = append(left, s)
		}
	}
	return j, left, unknown
}

// Read returns the slots with calls of a broker that has ended, as they are in the file at path now: they are to be
// read only.
func Read(path string) ([]*Slot, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := checkHeader(file); err != nil {
		return nil, fmt.Errorf("the journal %q: %w", path, err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	count := (int(info.Size()) - headerSize) / slotSize
	if count <= 0 {
		return nil, nil
	}
	memory, err := unix.Mmap(int(file.Fd()), 0, headerSize+count*slotSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("the journal %q: %w", path, os.NewSyscallError("mmap", err))
	}
	defer unix.Munmap(memory)
	var calls []*Slot
	for i := range count {
		at := (*Slot)(unsafe.Pointer(&memory[headerSize+i*slotSize]))
		if at.State() == Free || at.Packet.Notification.ID == 0 {
			continue
		}
		s := &Slot{
			kind: at.kind, source: at.source, value: at.value, since: at.since, plugin: at.plugin, Packet: at.Packet,
		}
		s.state.Store(at.state.Load())
		calls = append(calls, s)
	}
	return calls, nil
}

// checkHeader returns ErrVersion unless the file is empty or of this version.
func checkHeader(file *os.File) error {
	found := make([]byte, headerSize)
	switch n, _ := file.ReadAt(found, 0); {
	case n == 0 || bytes.Equal(found, header()):
		return nil
	default:
		return ErrVersion
	}
}

func header() []byte {
	h := make([]byte, headerSize)
	n := copy(h, magic)
	binary.NativeEndian.PutUint32(h[n:], version)
	binary.NativeEndian.PutUint32(h[n+4:], uint32(slotSize))
	return h
}

// mapSlots maps the file, which gets room for count slots or keeps what it has. All of it is allocated: where that is
// not possible later, the process would get SIGBUS.
func mapSlots(file *os.File, count int) ([]Slot, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	count = max(count, (int(info.Size())-headerSize)/slotSize)
	size := headerSize + count*slotSize
	if err := unix.Fallocate(int(file.Fd()), 0, 0, int64(size)); err != nil {
		return nil, os.NewSyscallError("fallocate", err)
	}
	if _, err := file.WriteAt(header(), 0); err != nil {
		return nil, err
	}
	memory, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return unsafe.Slice((*Slot)(unsafe.Pointer(&memory[headerSize])), count), nil
}

// Take returns a slot without a call. Where the file has none left, it is memory of this process: its calls do not
// outlive the broker.
func (j *Journal) Take() *Slot {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.free) == 0 {
		return &Slot{}
	}
	last := len(j.free) - 1
	s := j.free[last]
	j.free = j.free[:last]
	return s
}

// Use returns how many slots of the file are taken, and how many it has.
func (j *Journal) Use() (used, size int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return max(j.size-len(j.free), 0), j.size // slots beyond the file's may have been given back too
}

// Give gives a slot back, whose call is over.
func (j *Journal) Give(s *Slot) {
	s.Clear()
	s.follower.Store(0)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.free != nil {
		j.free = append(j.free, s)
	}
}
