// Package capture copies what a thread is, and opens handles on what it has, for those who decide on its system call
// and act for it.
//
// A thread can stop being who it was between any two steps: another thread of its process executes a set-user-ID
// program and gets its id and its struct pid (de_thread, fs/exec.c), it exits and the id is reused. So a capture
// counts only if the thread was still the one that is meant after the last part was captured: while it waits in a
// system call, the kernel says so by the notification's id. What is done with the capture later needs no such
// question.
//
// It knows the protocol of plugins by plain forms of its messages alone: an agent without the broker links no protobuf.
package capture

import (
	"errors"
	"strconv"
	"sync/atomic"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/pause"
	"golang.org/x/sys/unix"
)

// Set is a capture. The descriptors belong to it until Close. The zero Set is empty, and may be used again and again:
// its messages keep their space.
type Set struct {
	Captured
	Descriptors []int // of the handles that have one, in their order
	// Exchanged is set when a container exchanges a descriptor while it is duplicated. No more are then, since each
	// such time may cost a thread; nil: there is no container to remember that of.
	Exchanged *atomic.Bool

	credentials Credentials
	space       []*Handle
	status      []byte
}

// maxHandles bounds the parts of one capture: SCM_RIGHTS takes 253 descriptors (SCM_MAX_FD, include/net/scm.h).
const maxHandles = 64

// Close closes the descriptors and empties the set.
func (s *Set) Close() {
	linux.CloseAll(s.Descriptors...)
	s.Forget()
}

// Forget empties the set, whose descriptors are somebody else's now.
func (s *Set) Forget() {
	s.Descriptors, s.Handles = s.Descriptors[:0], s.Handles[:0]
	s.Credentials, s.Errno, s.Tid = nil, 0, 0
}

// Declared captures a part that a plugin's manifest declares for a system call, in which the argument that it names is
// this one.
func (s *Set) Declared(tid int, part Part, argument uint64) {
	number := int32(argument)
	if !ofDescriptor(part) {
		number = 0
	}
	if number >= 0 {
		s.add(tid, part, number, nil)
	}
}

// Asked captures what is asked for.
func (s *Set) Asked(tid int, wants []*Want) {
	for _, w := range wants {
		s.add(tid, w.Part, w.Number, w.Controllers)
	}
}

// ofDescriptor reports whether a part is of one of the thread's descriptors.
func ofDescriptor(part Part) bool {
	return part == PartDescriptor || part == PartFile
}

// add captures one part of the thread tid.
func (s *Set) add(tid int, part Part, number int32, controllers []string) {
	if s.Errno != 0 {
		return
	}
	pause.At(pause.Capture)
	s.Tid = int32(tid)
	if len(s.Handles) >= maxHandles {
		s.Errno = int32(unix.E2BIG)
		return
	}
	switch part {
	case PartCredentials:
		s.addCredentials(tid)
	case PartCgroups:
		s.addCgroups(tid, controllers)
	default:
		h := s.handle(part, number)
		fd, errno := s.open(tid, h)
		s.finish(h, fd, errno)
	}
}

// handle begins a handle of a part, whose space may have been another's.
func (s *Set) handle(part Part, number int32) *Handle {
	n := len(s.Handles)
	if n == len(s.space) {
		s.space = append(s.space, &Handle{})
	}
	h := s.space[n]
	h.Part, h.Number, h.Errno, h.HasDescriptor, h.Flags, h.Text = part, number, 0, false, 0, h.Text[:0]
	s.Handles = append(s.Handles, h)
	return h
}

// finish ends a handle with the descriptor fd, or -1. A thread that is gone, and a shortage of the broker's, fail the
// whole capture.
func (s *Set) finish(h *Handle, fd int, errno unix.Errno) {
	if errno != 0 {
		h.Errno = int32(errno)
		if errno == unix.ESRCH || isShortage(errno) {
			s.Errno = int32(errno)
		}
		return
	}
	if fd >= 0 {
		h.HasDescriptor = true
		s.Descriptors = append(s.Descriptors, fd)
	}
}

func isShortage(errno unix.Errno) bool {
	return errno == unix.EMFILE || errno == unix.ENFILE || errno == unix.ENOMEM
}

// files are the parts that are files of /proc/TID.
var files = [...]struct {
	name  string
	flags int
}{
	PartRoot:             {"root", unix.O_PATH},
	PartWorkingDirectory: {"cwd", unix.O_PATH},
	PartMountNamespace:   {"ns/mnt", unix.O_RDONLY},
	PartUserNamespace:    {"ns/user", unix.O_RDONLY},
	PartPIDNamespace:     {"ns/pid", unix.O_RDONLY},
	PartNetNamespace:     {"ns/net", unix.O_RDONLY},
	PartUTSNamespace:     {"ns/uts", unix.O_RDONLY},
	PartIPCNamespace:     {"ns/ipc", unix.O_RDONLY},
	PartCgroupNamespace:  {"ns/cgroup", unix.O_RDONLY},
	PartTimeNamespace:    {"ns/time", unix.O_RDONLY},
	PartMountinfo:        {"mountinfo", unix.O_RDONLY},
}

// open opens a part that is one descriptor, or reads one that is text.
func (s *Set) open(tid int, h *Handle) (fd int, errno unix.Errno) {
	switch part := h.Part; part {
	case PartPidfd:
		return openPidfd(tid)
	case PartDescriptor:
		return s.openDescriptor(tid, h)
	case PartFile:
		return s.openFile(tid, h)
	case PartNodeTmpfs:
		return newNodeTmpfs(uint32(h.Number))
	case PartHostMountinfo:
		return openFile("/proc/thread-self/mountinfo", unix.O_RDONLY)
	case PartLimits:
		return -1, s.read(tid, "limits", h, 4096)
	case PartOOMScoreAdj:
		return -1, s.read(tid, "oom_score_adj", h, 16)
	case PartExecLabel:
		return -1, s.readLabel(tid, h)
	case PartTimeOffsets:
		return -1, s.readTimeOffsets(tid, h)
	case PartGroupThreads, PartUserThreads:
		return -1, s.listThreads(tid, h)
	default:
		if part < 0 || int(part) >= len(files) || files[part].name == "" {
			return -1, unix.EINVAL
		}
		fd, errno = openFile(procPath(tid, files[part].name), files[part].flags)
		return fd, s.goneOr(tid, errno)
	}
}

// goneOr tells a thread that is gone from one that lacks the file.
func (s *Set) goneOr(tid int, errno unix.Errno) unix.Errno {
	if errno == unix.ENOENT && !exists(tid) {
		return unix.ESRCH
	}
	return errno
}

// read reads the first most bytes of a file of the thread's.
func (s *Set) read(tid int, name string, h *Handle, most int) unix.Errno {
	text, errno := readStart(h.Text, procPath(tid, name), most)
	h.Text = text
	return s.goneOr(tid, errno)
}

func procPath(tid int, name string) string { return "/proc/" + strconv.Itoa(tid) + "/" + name }

// openFile is open(2), close-on-exec.
func openFile(path string, flags int) (int, unix.Errno) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	return fd, toErrno(err)
}

// readStart reads the first most bytes of a file at most into text, whose content is replaced: of some descriptors,
// such as epoll's, fdinfo tells megabytes.
func readStart(text []byte, path string, most int) ([]byte, unix.Errno) {
	fd, errno := openFile(path, unix.O_RDONLY)
	if errno != 0 {
		return text[:0], errno
	}
	defer unix.Close(fd)
	if cap(text) < most {
		text = make([]byte, most)
	}
	n, err := unix.Read(fd, text[:most])
	if err != nil {
		return text[:0], toErrno(err)
	}
	return text[:n], 0
}

// toErrno is the errno that an error wraps; EIO if it is another.
func toErrno(err error) unix.Errno {
	var errno unix.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &errno):
		return errno
	default:
		return unix.EIO
	}
}
