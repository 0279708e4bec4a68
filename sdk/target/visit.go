package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// visit is all that the forked child needs, prepared before the fork.
type visit struct {
	namespace              NamespaceID // the user namespace
	user, mount, root, cwd int
	uid, gid               uint32
	groups                 []uint32
	header                 unix.CapUserHeader
	caps                   [2]unix.CapUserData
	dir                    int
	path                   *byte
	flags                  int
	access                 uint32

	unneeded [3][2]int // ranges of descriptors that the child closes: all but dir and the answer's socket
	answer   answer
	opened   *int32 // where the descriptor goes in the message
	message  unix.Msghdr
}

// answer is the child's message; the descriptor comes with it.
type answer struct {
	errno int32
	stage int32
}

// stages name what failed, by answer.stage.
var stages = [...]string{"setgroups", "setns to the user namespace", "setns to the mount namespace", "the root", "the working directory", "capset", "close_range", "", ""}

const (
	stageGroups = iota
	stageUser
	stageMount
	stageRoot
	stageCwd
	stageCaps
	stageClose
	stageOpen
	stageAccess
)

// run forks and waits for the descriptor that the child opens. It does not wait for a child that lingers.
func (v *visit) run(ctx context.Context) (int, error) {
	leave, err := visitors.enter(ctx, v.namespace)
	if err != nil {
		return -1, err
	}
	socket, pid, err := v.start()
	if err != nil {
		leave()
		return -1, entryError(err)
	}
	defer socket.Close()
	defer func() {
		go func() {
			reap(pid)
			leave()
		}()
	}()
	stop := context.AfterFunc(ctx, func() { socket.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	fd, a, err := receiveAnswer(socket)
	switch {
	case err != nil && ctx.Err() != nil:
		return -1, ctx.Err()
	case err != nil:
		return -1, entryError(fmt.Errorf("the helper process: %w", err))
	case a.errno != 0 && stages[a.stage] != "":
		return -1, entryError(fmt.Errorf("%s: %w", stages[a.stage], processError(unix.Errno(a.errno))))
	case a.errno != 0:
		return -1, unix.Errno(a.errno)
	}
	return fd, nil
}

// start starts the child and gives the socket that it answers on.
func (v *visit) start() (*os.File, int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("socketpair: %w", err)
	}
	defer unix.Close(pair[1])
	v.prepare(pair[1])
	pid, err := fork(v, pair[1])
	if err != nil {
		unix.Close(pair[0])
		return nil, 0, err
	}
	return os.NewFile(uintptr(pair[0]), "answer"), pid, nil
}

// prepare makes the message and the list of descriptors, in memory that the child has a copy of.
func (v *visit) prepare(socket int) {
	rights := unix.UnixRights(-1)
	v.opened = (*int32)(unsafe.Pointer(&rights[unix.CmsgLen(0)]))
	v.message.Control = &rights[0]
	v.message.SetControllen(len(rights))
	data := &unix.Iovec{Base: (*byte)(unsafe.Pointer(&v.answer))}
	data.SetLen(int(unsafe.Sizeof(v.answer)))
	v.message.Iov = data
	v.message.SetIovlen(1)
	first, last := socket, socket
	if v.dir >= 0 {
		first, last = min(first, v.dir), max(last, v.dir)
	}
	v.unneeded = [3][2]int{{0, first - 1}, {first + 1, last - 1}, {last + 1, math.MaxInt32}}
}

// receiveAnswer reads the child's message. The error is io.EOF if the child died without one.
func receiveAnswer(socket *os.File) (int, answer, error) {
	var a answer
	data := unsafe.Slice((*byte)(unsafe.Pointer(&a)), unsafe.Sizeof(a))
	rights := make([]byte, unix.CmsgSpace(4))
	connection, err := socket.SyscallConn()
	if err != nil {
		return -1, a, err
	}
	var n, nrights int
	var received error
	err = connection.Read(func(fd uintptr) bool {
		for {
			n, nrights, _, _, received = unix.Recvmsg(int(fd), data, rights, unix.MSG_CMSG_CLOEXEC)
			if received != unix.EINTR {
				return received != unix.EAGAIN
			}
		}
	})
	if err = errors.Join(err, received); err != nil {
		return -1, a, err
	}
	if n != len(data) {
		return -1, a, io.EOF
	}
	if a.errno != 0 {
		return -1, a, nil
	}
	messages, err := unix.ParseSocketControlMessage(rights[:nrights])
	if err != nil || len(messages) != 1 {
		return -1, a, fmt.Errorf("no descriptor came with its answer: %w", cmp.Or(err, io.EOF))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return -1, a, err
	}
	return fds[0], a, nil
}

// reap ends the child, which is this process's until it is waited for, so that the pid is no other's.
func reap(pid int) {
	unix.Kill(pid, unix.SIGKILL)
	for {
		if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != unix.EINTR {
			return
		}
	}
}

// fork makes a child that shares nothing, and runs v.child in it.
//
// The child is a copy of one thread of a Go program whose other threads, locks and collector are not there: it may only
// make raw system calls on memory prepared before, on the stack that it has (nosplit), without instrumentation (norace).
// Signals stay blocked in it, so that no Go signal handler runs there. As syscall.forkExec does, without the exec.
func fork(v *visit, socket int) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all := ^uint64(0)
	var old uint64
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), 8, 0, 0); errno != 0 {
		return 0, fmt.Errorf("sigprocmask: %w", errno)
	}
	pid, errno := forkChild(v, socket)
	unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
	if errno != 0 {
		return 0, fmt.Errorf("clone: %w", errno)
	}
	return pid, nil
}

//go:nosplit
//go:norace
func forkChild(v *visit, socket int) (int, unix.Errno) {
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, 0, 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		return int(pid), errno
	}
	fd, stage, failed := v.child()
	v.answer = answer{int32(failed), stage}
	*v.opened = int32(fd)
	if failed != 0 {
		v.message.Controllen = 0
	}
	unix.RawSyscall(unix.SYS_SENDMSG, uintptr(socket), uintptr(unsafe.Pointer(&v.message)), unix.MSG_NOSIGNAL)
	for {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}

// child does the visit. The mount namespace comes first, by this process's power over it: a target in a user namespace
// nested deeper has none. The ids are set before the user namespace is joined, so that they are those of this process's;
// joining gives all capabilities in it, of which the target's own are kept. Before the path is opened all descriptors go
// that it does not need: a path can name them (/proc/self/fd/3), and /proc/self is then this process.
//
//go:nosplit
//go:norace
func (v *visit) child() (fd uintptr, stage int32, errno unix.Errno) {
	if _, _, errno = unix.RawSyscall(unix.SYS_SETNS, uintptr(v.mount), unix.CLONE_NEWNS, 0); errno != 0 {
		return 0, stageMount, errno
	}
	if _, _, errno = unix.RawSyscall(unix.SYS_FCHDIR, uintptr(v.root), 0, 0); errno != 0 {
		return 0, stageRoot, errno
	}
	if _, _, errno = unix.RawSyscall(unix.SYS_CHROOT, uintptr(unsafe.Pointer(&dot[0])), 0, 0); errno != 0 {
		return 0, stageRoot, errno
	}
	if _, _, errno = unix.RawSyscall(unix.SYS_FCHDIR, uintptr(v.cwd), 0, 0); errno != 0 {
		return 0, stageCwd, errno
	}
	var groups uintptr
	if len(v.groups) > 0 {
		groups = uintptr(unsafe.Pointer(&v.groups[0]))
	}
	if _, _, errno = unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(v.groups)), groups, 0); errno != 0 {
		return 0, stageGroups, errno
	}
	unix.RawSyscall(unix.SYS_SETFSGID, uintptr(v.gid), 0, 0)
	unix.RawSyscall(unix.SYS_SETFSUID, uintptr(v.uid), 0, 0)
	if _, _, errno = unix.RawSyscall(unix.SYS_SETNS, uintptr(v.user), unix.CLONE_NEWUSER, 0); errno != 0 {
		return 0, stageUser, errno
	}
	if _, _, errno = unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&v.header)), uintptr(unsafe.Pointer(&v.caps[0])), 0); errno != 0 {
		return 0, stageCaps, errno
	}
	for i := range v.unneeded {
		first, last := v.unneeded[i][0], v.unneeded[i][1]
		if first > last {
			continue
		}
		if _, _, errno = unix.RawSyscall(unix.SYS_CLOSE_RANGE, uintptr(first), uintptr(last), 0); errno != 0 {
			return 0, stageClose, errno
		}
	}
	if fd, _, errno = unix.RawSyscall6(unix.SYS_OPENAT, uintptr(v.dir), uintptr(unsafe.Pointer(v.path)), uintptr(v.flags), 0, 0, 0); errno != 0 {
		return 0, stageOpen, errno
	}
	if v.access != 0 {
		if _, _, errno = unix.RawSyscall6(unix.SYS_FACCESSAT2, fd, uintptr(unsafe.Pointer(&nothing[0])), uintptr(v.access), unix.AT_EACCESS|unix.AT_EMPTY_PATH, 0, 0); errno != 0 {
			return 0, stageAccess, errno
		}
	}
	return fd, 0, 0
}

// Paths for the child: NUL-terminated, made before any fork.
var (
	dot     = [...]byte{'.', 0}
	nothing = [...]byte{0}
)
