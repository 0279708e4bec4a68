// Package target is the thread that made a system call and waits for the answer: its credentials, namespaces and
// descriptors, its memory, and running code in its place.
//
// The thread belongs to a container, which is not trusted: everything read from it is its own word, but for what the
// kernel says in /proc. What a Target says and holds was captured while the thread waited in the call, as copies and
// open descriptors: it stays what it was when the thread ends, or becomes another program (de_thread, fs/exec.c). Each
// method captures what it lacks, at the cost of a question to the broker. If the thread is gone by then its error wraps
// os.ErrProcessDone.
package target

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// Target is a thread of another process. Its methods may be called concurrently, Close excepted.
type Target struct {
	tid    int
	source capture.Source
	own    *ownThread // that Do works on when it is called there; nil: on others alone
	end    time.Time  // from which on Do does nothing; zero: never

	mu          sync.Mutex
	handles     []handle
	credentials *Credentials
	place       *Place
}

// handle is a captured part.
type handle struct {
	part   capture.Part
	number int32
	fd     int // -1: it has none
	errno  unix.Errno
	flags  int
	text   []byte
	taken  bool // it is somebody else's now
}

// Open opens the thread tid, in this process's pid namespace, by this process's own power over it (CAP_SYS_PTRACE). The
// thread is held by a pidfd: what is captured counts if it lives afterwards. The error wraps os.ErrProcessDone if there
// is no such thread.
func Open(tid int) (*Target, error) {
	thread, err := capture.OpenThread(tid)
	if err != nil {
		return nil, err
	}
	return newTarget(tid, capture.Held(thread)), nil
}

// Waiting is the thread tid, which waits in a system call, for agents of their own: waits returns an error if it does
// not, or not any more. What is captured, by this process's own power, counts if it still waits afterwards.
func Waiting(tid int, waits func() error) *Target { return newTarget(tid, capture.Waiting(tid, waits)) }

// adopt adds what was captured, whose descriptors it takes over, and returns the new handles. The Target is locked, or
// nobody else has it yet.
func (t *Target) adopt(captured *capture.Captured, fds []int) ([]handle, error) {
	if captured.Credentials != nil {
		credentials, err := credentialsOf(captured.Credentials)
		if err != nil {
			linux.CloseAll(fds...)
			return nil, err
		}
		t.credentials = credentials
	}
	before := len(t.handles)
	for _, h := range captured.Handles {
		added := handle{h.Part, h.Number, -1, unix.Errno(h.Errno), int(h.Flags), h.Text, false}
		if h.HasDescriptor {
			if len(fds) == 0 {
				return nil, fmt.Errorf("a capture of thread %d came without its descriptors", t.tid)
			}
			added.fd, fds = fds[0], fds[1:]
		}
		t.handles = append(t.handles, added)
	}
	linux.CloseAll(fds...)
	return t.handles[before:], nil
}

// Close releases what was captured. A second Close does nothing.
func (t *Target) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.handles {
		linux.CloseAll(t.handles[i].fd)
	}
	t.handles, t.place = nil, nil
	t.source.Close()
	return nil
}

// capture captures parts of which there is none, in one question. The Target is locked.
func (t *Target) capture(parts ...capture.Part) error {
	var wants []*capture.Want
	for _, part := range parts {
		if t.find(part, 0) == nil && (part != capture.PartCredentials || t.credentials == nil) {
			wants = append(wants, &capture.Want{Part: part})
		}
	}
	if len(wants) == 0 {
		return nil
	}
	_, err := t.ask(wants...)
	return err
}

// ask captures parts and returns their handles. The Target is locked.
func (t *Target) ask(wants ...*capture.Want) ([]handle, error) {
	captured, fds, err := t.source.Capture(wants, 0)
	if err != nil {
		return nil, t.error(err)
	}
	return t.adopt(captured, fds)
}

func (t *Target) error(err error) error { return fmt.Errorf("thread %d: %w", t.tid, err) }

// find finds a captured part; nil if there is none.
func (t *Target) find(part capture.Part, number int32) *handle {
	for i := range t.handles {
		if h := &t.handles[i]; h.part == part && h.number == number && !h.taken {
			return h
		}
	}
	return nil
}

// take gives away a captured part, whose descriptor is the caller's then. It is captured if there is none.
func (t *Target) take(part capture.Part, number int32) (handle, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.find(part, number)
	if h == nil {
		if _, err := t.ask(&capture.Want{Part: part, Number: number}); err != nil {
			return handle{fd: -1}, err
		}
		if h = t.find(part, number); h == nil {
			return handle{fd: -1}, fmt.Errorf("thread %d: the broker captured something else than %v", t.tid, part)
		}
	}
	taken := *h
	*h = handle{fd: -1, taken: true}
	if taken.errno != 0 {
		return handle{fd: -1}, t.error(taken.errno)
	}
	return taken, nil
}

// borrow is a captured part whose descriptor stays the Target's. The Target is locked.
func (t *Target) borrow(part capture.Part) (*handle, error) {
	if err := t.capture(part); err != nil {
		return nil, err
	}
	h := t.find(part, 0)
	switch {
	case h == nil:
		return nil, fmt.Errorf("thread %d: the broker captured something else than %v", t.tid, part)
	case h.errno != 0:
		return nil, t.error(h.errno)
	}
	return h, nil
}

// TID is the thread's id, in the broker's pid namespace; of a Target that Open or Waiting made, in this process's.
func (t *Target) TID() int { return t.tid }

// Alive returns an error wrapping os.ErrProcessDone if the thread is gone, or does not wait in its call any more.
func (t *Target) Alive() error { return t.source.Alive() }

// Thread is the thread that the target names tid: sched_setattr(2) and its like take ids of the caller's pid
// namespace. The error wraps os.ErrProcessDone if the target sees no such thread. Nothing is captured of it later but
// what is said here: its user namespace, and whether it lives. It is to be closed.
func (t *Target) Thread(tid int) (*Target, error) {
	wants := []*capture.Want{{Part: capture.PartPidfd}, {Part: capture.PartUserNamespace}}
	captured, fds, err := t.source.Capture(wants, tid)
	if err != nil {
		return nil, fmt.Errorf("thread %d of the pid namespace of thread %d: %w", tid, t.tid, err)
	}
	named := newTarget(int(captured.Tid), nil)
	named.source = held{named}
	handles, err := named.adopt(captured, fds)
	if err != nil {
		return nil, err
	}
	for _, h := range handles {
		if h.fd < 0 {
			named.Close()
			return nil, named.error(capture.ProcessError(h.errno))
		}
	}
	return named, nil
}

// TimeOffsets is the thread's timens_offsets (time_namespaces(7)): lines of CLOCK SECONDS NANOSECONDS, none if it is in
// the broker's time namespace. The error wraps unix.ENOENT if the kernel has no time namespaces.
func (t *Target) TimeOffsets() (string, error) { return t.text(capture.PartTimeOffsets) }

// GroupThreads are the ids, in the target's pid namespace, of the threads that it means by setpriority(PRIO_PGRP,
// group): those in the process group that has this number there; 0: in its own group. Each may have ended, and its id
// be another's of the namespace, when it is used ([Target.Thread]). The error wraps unix.E2BIG if there are more than
// 1,024, unix.EOPNOTSUPP if the target is in the broker's pid namespace, or the group is of a process outside of the
// target's.
//
// The broker reads the whole of /proc for it.
func (t *Target) GroupThreads(group int) ([]int, error) {
	return t.listThreads(capture.PartGroupThreads, int32(group))
}

// UserThreads is GroupThreads for setpriority(PRIO_USER): of the threads in the target's pid namespace those with this
// real user id, which is of the broker's user namespace.
func (t *Target) UserThreads(uid uint32) ([]int, error) {
	return t.listThreads(capture.PartUserThreads, int32(uid))
}

func (t *Target) listThreads(part capture.Part, number int32) ([]int, error) {
	h, err := t.take(part, number)
	if err != nil {
		return nil, err
	}
	var ids []int
	for _, field := range strings.Fields(string(h.text)) {
		id, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("threads of thread %d: %w", t.tid, err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// OpenMountinfo opens the thread's mountinfo (proc_pid_mountinfo(5)): the mounts of its mount namespace, below its
// root. It shows them as they are when they are read. The caller closes the descriptor.
func (t *Target) OpenMountinfo() (int, error) {
	h, err := t.take(capture.PartMountinfo, 0)
	return h.fd, err
}

// OpenHostMountinfo opens the mountinfo of the broker, which is in the host's mount namespace. The caller closes the
// descriptor.
func (t *Target) OpenHostMountinfo() (int, error) {
	h, err := t.take(capture.PartHostMountinfo, 0)
	return h.fd, err
}

// NewNodeTmpfs has the broker make an empty tmpfs of the host's, with room for one device node: a detached mount,
// which ends with its descriptor, nosuid and noexec. Everybody may write in its root, whose group is the given one,
// with S_ISGID. The caller closes the descriptor. A node on it can be opened, as one on a filesystem of a container
// cannot.
func (t *Target) NewNodeTmpfs(group uint32) (int, error) {
	h, err := t.take(capture.PartNodeTmpfs, int32(group))
	return h.fd, err
}

// Duplicate duplicates the thread's descriptor fd (pidfd_getfd(2)), close-on-exec; the caller closes it. It must be
// of a pipe, an anonymous inode or /dev/fuse: of others the error wraps unix.EOPNOTSUPP, since closing the duplicate
// could wait for a filesystem that the target serves (FUSE), or for the peer of a socket, for ever; see
// OpenDescriptor for them. The error wraps unix.EBADF if the thread has no such descriptor, unix.ESTALE if a process
// of the container exchanged one while it was duplicated: then none is any more.
//
// The duplicate shares its open file description with the target. It is not for os.NewFile: the Go runtime polls a
// description that has O_NONBLOCK.
func (t *Target) Duplicate(fd int) (int, error) {
	if fd < 0 {
		return -1, fmt.Errorf("descriptor %d of thread %d: %w", fd, t.tid, unix.EBADF)
	}
	h, err := t.take(capture.PartFile, int32(fd))
	if err != nil {
		return -1, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	return h.fd, nil
}
