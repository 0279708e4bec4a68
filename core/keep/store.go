package keep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// Variables of a process that a manager watches (sd_notify(3), sd_watchdog_enabled(3), systemd.exec(5)).
const (
	notifySocket = "NOTIFY_SOCKET"
	storeSize    = "FDSTORE" // systemd sets it since version 254, and the keeper does
	watchdogTime = "WATCHDOG_USEC"
	watchdogPID  = "WATCHDOG_PID"

	fallbackVariable = "INTERCEDE_FALLBACK" // path of the socket of a fallback
)

// States that a service tells its manager (sd_notify(3)).
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
	Watchdog = "WATCHDOG=1"
)

// Reloading is the state of a service that has begun to read its config again. Ready ends it.
func Reloading() string {
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", linux.Monotonic(time.Now())/1000)
}

// Assignments of messages about descriptors (sd_notify(3)).
const (
	storeDescriptor  = "FDSTORE=1"
	removeDescriptor = "FDSTOREREMOVE=1"
	nameAssignment   = "FDNAME="
	// noPoll has the manager keep a descriptor whose poll(2) reports an error: that of a seccomp listener does so when
	// a signal comes (seccomp_notify_poll, kernel/seccomp.c).
	noPoll  = "FDPOLL=0"
	barrier = "BARRIER=1"
)

const (
	// sendTimeout bounds how long a message waits for room in the manager's queue.
	sendTimeout = 5 * time.Second

	// maxNames bounds the names of all descriptors together, in bytes, each with its colon: they are given to the
	// next broker in one variable, and execve(2) fails if that has more than MAX_ARG_STRLEN bytes
	// (include/uapi/linux/binfmts.h). There is room for the sockets of units besides.
	maxNames = 128<<10 - 4<<10
)

// ErrFull means that the store has no room for another descriptor, which would be lost with the broker.
var ErrFull = errors.New("the descriptor store is full")

// Store is the manager's descriptor store. A nil one is that of a process which has none: it does nothing, without an
// error. It may be used concurrently.
type Store struct {
	address string
	size    int // descriptors that it takes; 0: it is not known

	fallbackPath  string  // of its socket; empty: there is none
	fallback      *client // nil: it has nothing of this process
	fallbackError error   // why it has nothing

	mu    sync.Mutex            // held while a message is sent, so that messages arrive in order
	names map[string][]*os.File // copies, for a fallback; nil ones where there is none
	count int
	bytes int // of the names, each with its colon
}

// Open returns the store of the manager that started this process; nil if there is none. Stored are those that it has
// already: what Inherited returned. The error says that NOTIFY_SOCKET has an address of another kind than a Unix
// socket's.
//
// Where the environment names a fallback (INTERCEDE_FALLBACK, the path of its socket), that gets copies of what is
// stored: it answers should this process end, or take long, before it is ready.
func Open(stored ...Descriptor) (*Store, error) {
	address := os.Getenv(notifySocket)
	if address == "" {
		return nil, nil
	}
	if address[0] != '/' && address[0] != '@' {
		return nil, fmt.Errorf("%s=%.200q: want the path of a Unix socket, or the name of an abstract one after an @", notifySocket, address)
	}
	s := &Store{address: address, names: map[string][]*os.File{}}
	if size, err := strconv.Atoi(os.Getenv(storeSize)); err == nil && size > 0 {
		s.size = size
	}
	s.fallbackPath = os.Getenv(fallbackVariable)
	for _, d := range stored {
		if err := s.account(d.Name, int(d.File.Fd())); err != nil {
			return nil, err
		}
	}
	if err := s.insure(); err != nil {
		s.fallback, s.fallbackError = nil, err // a broker is better than none
	}
	return s, nil
}

// Available reports whether there is a manager to talk to.
func (s *Store) Available() bool { return s != nil }

// Size is how many descriptors the manager takes; 0: it does not say. systemd says so since version 254.
func (s *Store) Size() int {
	if s == nil {
		return 0
	}
	return s.size
}

// Count is how many descriptors the store has, as far as this process knows.
func (s *Store) Count() int {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Put stores a copy of the descriptor. The name has 1 to 255 lower-case letters, digits, dots and hyphens. It returns
// when the message is in the manager's queue; see Barrier. The manager says nothing about a descriptor that it does
// not take, so that Put checks what it can know: the error wraps [ErrFull] if there are as many as Size says, or if
// the names of all would not fit into the environment of the next broker. It wraps unix.EAGAIN if the queue stays
// full for 5 seconds.
func (s *Store) Put(name string, fd int) error {
	if s == nil {
		return nil
	}
	if err := checkName(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size > 0 && s.count >= s.size {
		return fmt.Errorf("%w: it takes %d descriptors (FileDescriptorStoreMax=, systemd.service(5)): %q is not in it", ErrFull, s.size, name)
	}
	if s.bytes+len(name)+1 > maxNames {
		return fmt.Errorf("%w: the names of its descriptors have %d bytes, and may have %d: %q is not in it", ErrFull, s.bytes, maxNames, name)
	}
	if err := s.send(strings.Join([]string{storeDescriptor, nameAssignment + name, noPoll}, "\n"), fd); err != nil {
		return fmt.Errorf("store the descriptor %q: %w", name, err)
	}
	return s.account(name, fd)
}

// account counts a stored descriptor.
func (s *Store) account(name string, fd int) error {
	copied, err := s.copyForFallback(name, fd)
	if err != nil {
		return err
	}
	s.names[name] = append(s.names[name], copied)
	s.count++
	s.bytes += len(name) + 1
	return nil
}

// Remove removes all descriptors of this name.
func (s *Store) Remove(name string) error {
	if s == nil {
		return nil
	}
	if err := checkName(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.send(removeDescriptor + "\n" + nameAssignment + name); err != nil {
		return fmt.Errorf("remove the descriptor %q from the store: %w", name, err)
	}
	s.count -= len(s.names[name])
	s.bytes -= len(s.names[name]) * (len(name) + 1)
	for _, copied := range s.names[name] {
		copied.Close() // nil ones too
	}
	delete(s.names, name)
	return nil
}

// TakeOver has whoever answers in this process's stead stop. When it returns this process alone receives from the
// listeners, and not before. It returns what was inherited and what else a fallback had; with an error too: somebody
// who does not answer this in time answers no calls either.
func (s *Store) TakeOver(ctx context.Context, inherited []Descriptor) ([]Descriptor, error) {
	if s == nil {
		return inherited, nil
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	stopped := errors.Join(s.Notify(takeOver), s.Barrier(ctx))
	all, taken := s.takeFromFallback(inherited)
	return all, errors.Join(stopped, taken)
}

// Notify tells the manager a state: [Ready], [Reloading], [Stopping], [Watchdog], or "STATUS=" with one line for
// people.
func (s *Store) Notify(state string) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.send(state); err != nil {
		return fmt.Errorf("tell the manager %q: %w", state, err)
	}
	if state == Ready {
		s.releaseFallback()
	}
	return nil
}

// Barrier returns when the manager has handled all messages before it, or with ctx's cause (sd_notify_barrier(3)).
func (s *Store) Barrier(ctx context.Context) error {
	if s == nil {
		return nil
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	s.mu.Lock()
	err = s.send(barrier, int(write.Fd()))
	s.mu.Unlock()
	write.Close()
	if err != nil {
		return fmt.Errorf("wait for the manager: %w", err)
	}
	defer context.AfterFunc(ctx, func() { read.SetReadDeadline(time.Unix(1, 0)) })()
	// The manager closes the other end when it comes to the message.
	if _, err := read.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("wait for the manager: %w", err)
	}
	return nil
}

// send sends one message. The manager may have made its socket anew since the last.
func (s *Store) send(message string, fds ...int) error {
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(socket)
	timeout := unix.NsecToTimeval(sendTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout); err != nil {
		return os.NewSyscallError("setsockopt SO_SNDTIMEO", err)
	}
	if err := unix.Connect(socket, &unix.SockaddrUnix{Name: s.address}); err != nil {
		return fmt.Errorf("connect to %q: %w", s.address, err)
	}
	return linux.Send(socket, []byte(message), fds...)
}

// WatchdogInterval is how often at least the manager wants to be told [Watchdog], or it ends this process; 0: it does
// not (sd_watchdog_enabled(3)). Tell it twice as often.
func WatchdogInterval() time.Duration {
	if pid := os.Getenv(watchdogPID); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	µs, err := strconv.ParseInt(os.Getenv(watchdogTime), 10, 64)
	if err != nil || µs <= 0 {
		return 0
	}
	return time.Duration(µs) * time.Microsecond
}
