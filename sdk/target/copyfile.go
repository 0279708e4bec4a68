package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// MaxCopy is the largest max of CopyFile, in bytes (MAX_RW_COUNT, include/linux/fs.h).
const MaxCopy = 0x7ffff000 - 1

// stepCopy names the steps whose errno is that of reading the file.
const stepCopy = "read"

// CopyFile copies the content of a regular file, of max bytes at most, into a file in memory that nobody can change
// (memfd_create(2), sealed), so that what was decided on is what is used: of the target's own file any content could
// change with each look. fd is an own descriptor of it, of OpenDescriptor or OpenPath (O_PATH will do). The copy is
// open for reading, at its start.
//
// The file is opened anew as Reopen does it, and read, by a process of its own, in the target's cgroups, which are
// charged for the memory; this process needs CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID, and declares setns. A
// filesystem that the target serves (FUSE) may let it wait: it is killed when ctx ends. Give ctx a deadline well
// before that of the call, so that there is time for an answer of the plugin's own.
//
// The error wraps unix.EINVAL for what is not a regular file, such as a FIFO or a device; unix.EFBIG if the file is
// longer; the kernel's errno if it is that of opening or reading the file; os.ErrProcessDone if the target is gone;
// ctx's if that ends first.
func (t *Target) CopyFile(ctx context.Context, fd int, max int64) (*os.File, error) {
	if max < 0 || max > MaxCopy {
		return nil, fmt.Errorf("copy of a file: a maximum of %d bytes: want 0 to %d", max, int64(MaxCopy))
	}
	if err := checkRegular(fd); err != nil {
		return nil, err
	}
	memory, err := newMemory()
	if err != nil {
		return nil, entryError(err)
	}
	defer unix.Close(memory)
	if err := t.copyInto(ctx, memory, fd, int(max)); err != nil {
		return nil, err
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(memory), unix.F_ADD_SEALS, seals); err != nil {
		return nil, entryError(os.NewSyscallError("F_ADD_SEALS", err))
	}
	var st unix.Stat_t
	if err := unix.Fstat(memory, &st); err != nil {
		return nil, entryError(os.NewSyscallError("fstat", err))
	}
	if st.Size > max {
		return nil, &os.PathError{Op: "copy", Path: "file of a container", Err: unix.EFBIG}
	}
	// A file that somebody may write is not executed, nor loaded as a module (deny_write_access, include/linux/fs.h).
	readable, err := unix.Open("/proc/self/fd/"+strconv.Itoa(memory), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, entryError(&os.PathError{Op: "open", Path: "copy in memory", Err: err})
	}
	return os.NewFile(uintptr(readable), "copy"), nil
}

// copyInto copies at most two bytes more than max: one says that the file is longer.
func (t *Target) copyInto(ctx context.Context, memory, fd, max int) error {
	s := &Steps{}
	opened, namespace, release, err := t.addReopen(s, fd, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, "devices", "memory")
	if err != nil {
		return entryError(err)
	}
	defer release()
	s.KeepOpen(memory)
	s.Add(stepCopy, unix.SYS_SENDFILE, memory, opened, 0, max+1)
	// The first ends early without an error where a later read fails: that fails once more here, or what was read is
	// less than the file.
	s.Add(stepCopy, unix.SYS_SENDFILE, memory, opened, 0, 1)
	return stepsError(ctx, s.Run(ctx, namespace), stepReopen, stepCopy)
}

// checkRegular refuses what is not a regular file, as far as the kernel knows without asking its filesystem, which
// may be the target's. Of such a one (FUSE) it tells this process nothing: there may be a FIFO, which can be opened
// without waiting, and not be read by sendfile(2), but no device (SB_I_NODEV).
func checkRegular(fd int) error {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st)
	if errors.Is(err, unix.EACCES) {
		return nil
	}
	if err != nil {
		return entryError(os.NewSyscallError("statx", err))
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return &os.PathError{Op: "copy", Path: "what is not a regular file", Err: unix.EINVAL}
	}
	return nil
}

// newMemory makes an empty file in memory that can be sealed, and never executed (kernel 6.3).
func newMemory() (int, error) {
	fd, err := unix.MemfdCreate("copy", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("copy", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	return fd, os.NewSyscallError("memfd_create", err)
}
