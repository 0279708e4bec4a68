package capture

import (
	"bytes"
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxInfo is how much of a descriptor's fdinfo is kept, in bytes.
const maxInfo = 512

// openDescriptor opens (O_PATH) the file that one of the thread's descriptors is open on. The thread's process may
// replace the descriptor between the one look and the other.
//
// Closing what it opens asks nobody, where closing a duplicate asks the filesystem (close(2), flush), and waits for a
// filesystem that the container serves (FUSE), for ever if that wants it.
func (s *Set) openDescriptor(tid int, h *Handle) (int, unix.Errno) {
	number := strconv.Itoa(int(h.Number))
	text, errno := readStart(h.Text, procPath(tid, "fdinfo/"+number), maxInfo)
	h.Text = text
	if errno != 0 {
		return -1, descriptorErrno(tid, errno)
	}
	flags, err := descriptorFlags(text)
	if err != nil {
		return -1, unix.EIO
	}
	h.Flags = flags
	fd, errno := openFile(procPath(tid, "fd/"+number), unix.O_PATH)
	return fd, descriptorErrno(tid, errno)
}

// descriptorErrno tells a descriptor that is not there from a thread that is gone.
func descriptorErrno(tid int, errno unix.Errno) unix.Errno {
	switch {
	case errno != unix.ENOENT:
		return errno
	case exists(tid):
		return unix.EBADF
	default:
		return unix.ESRCH
	}
}

// descriptorFlags reads the line "flags:", in octal, of /proc/PID/fdinfo/FD (proc_pid_fdinfo(5)).
func descriptorFlags(info []byte) (uint32, error) {
	for line := range bytes.Lines(info) {
		if digits, found := bytes.CutPrefix(line, []byte("flags:")); found {
			flags, err := strconv.ParseUint(string(bytes.TrimSpace(digits)), 8, 32)
			return uint32(flags), err
		}
	}
	return 0, errors.New("no line flags")
}

// openFile duplicates one of the thread's descriptors, if closing the duplicate asks no filesystem. The thread's
// process may exchange it between the look and the copy; what is copied then is closed by a goroutine that may hang
// for as long as that filesystem lives.
func (s *Set) openFile(tid int, h *Handle) (int, unix.Errno) {
	if s.Exchanged != nil && s.Exchanged.Load() {
		return -1, unix.ESTALE
	}
	ask := func(name string) (bool, error) {
		var link [64]byte
		n, err := unix.Readlink(name, link[:])
		return err == nil && (asksNobody(link[:n]) || isFuseDevice(name)), err
	}
	quiet, err := ask(procPath(tid, "fd/"+strconv.Itoa(int(h.Number))))
	if err != nil {
		return -1, descriptorErrno(tid, toErrno(err))
	}
	if !quiet {
		return -1, unix.EOPNOTSUPP
	}
	pidfd, errno := openPidfd(tid)
	if errno != 0 {
		return -1, errno
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, int(h.Number), 0)
	if err != nil {
		return -1, toErrno(err)
	}
	if quiet, err = ask("/proc/thread-self/fd/" + strconv.Itoa(fd)); err != nil || !quiet {
		if s.Exchanged != nil {
			s.Exchanged.Store(true)
		}
		go unix.Close(fd)
		return -1, unix.ESTALE
	}
	return fd, 0
}

// isFuseDevice reports whether a descriptor, by its link in /proc, is of the device by which a daemon serves a FUSE
// filesystem. Closing that waits for nobody: it ends the connection (fuse_dev_release, fs/fuse/dev.c). What is looked
// at is not asked for news of its inode, which a server could keep back.
func isFuseDevice(name string) bool {
	const misc, fuse = 10, 229 // Documentation/admin-guide/devices.txt
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, name, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev_major == misc && st.Rdev_minor == fuse
}

// asksNobody reports whether a descriptor's link in /proc is of a file whose close waits for nobody: not for a
// filesystem that a container serves, nor for the peer of a socket (SO_LINGER, socket(7)).
func asksNobody(link []byte) bool {
	for _, kind := range [...]string{"anon_inode:", "pipe:["} {
		if bytes.HasPrefix(link, []byte(kind)) {
			return true
		}
	}
	return false
}
