package target

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OpenAt opens path (openat(2), flags as there; O_CREAT is refused) exactly as the target would: in its user and mount
// namespaces, root and working directory, with all its credentials and capabilities, so that it reaches the files of
// others that a capability of the target reaches, and none of the host's. A relative path starts at dir, an own
// descriptor, or AT_FDCWD. If access is not 0 the file must also allow it to the target (faccessat2(2): unix.W_OK ...).
//
// The error is the kernel's errno, or of the entry; os.ErrProcessDone if the target is gone, ctx's if it ends first.
//
// A thread of a Go program cannot join a user namespace (the kernel wants a single-threaded process), so this forks:
// about a hundred times the cost of Do. See fork for what the child may do.
func (t *Target) OpenAt(ctx context.Context, dir int, path string, flags int, access uint32) (*os.File, error) {
	if flags&(unix.O_CREAT|unix.O_TMPFILE&^unix.O_DIRECTORY) != 0 {
		return nil, fmt.Errorf("open %q: flags %#o make files: %w", path, flags, unix.EINVAL)
	}
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", path, err)
	}
	p, err := t.openPlace()
	if err != nil {
		return nil, err
	}
	defer p.close()
	user, err := t.open("ns/user", unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(user)

	visit := visit{
		user: user, mount: p.mount, root: p.root, cwd: p.cwd,
		uid: p.credentials.UIDs.Filesystem, gid: p.credentials.GIDs.Filesystem,
		groups: p.credentials.Groups,
		header: unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3},
		dir:    dir, path: name, flags: flags | unix.O_CLOEXEC, access: access,
	}
	for i := range visit.caps {
		visit.caps[i].Effective = uint32(p.credentials.Effective >> (32 * i))
		visit.caps[i].Permitted = uint32(p.credentials.Permitted >> (32 * i))
	}
	fd, err := visit.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("open %q as thread %d: %w", path, t.tid, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// visit is all that the forked child needs, prepared before the fork.
type visit struct {
	user, mount, root, cwd int
	uid, gid               uint32
	groups                 []uint32
	header                 unix.CapUserHeader
	caps                   [2]unix.CapUserData
	dir                    int
	path                   *byte
	flags                  int
	access                 uint32
}

// outcome is how the child answers, in memory that parent and child share.
type outcome struct {
	done  int32
	fd    int32
	errno int32
	stage int32
}

// stages name what failed, by outcome.stage.
var stages = [...]string{"setgroups", "setns to the user namespace", "setns to the mount namespace", "the root", "the working directory", "capset", "", ""}

const (
	stageGroups = iota
	stageUser
	stageMount
	stageRoot
	stageCwd
	stageCaps
	stageOpen
	stageAccess
)

// run forks, waits for the child and returns the descriptor that it opened: the two share one descriptor table.
func (v *visit) run(ctx context.Context) (int, error) {
	shared, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return -1, fmt.Errorf("mmap: %w", err)
	}
	defer unix.Munmap(shared)
	out := (*outcome)(unsafe.Pointer(&shared[0]))
	out.fd = -1

	pid, err := fork(v, out)
	if err != nil {
		return -1, err
	}
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(killed)
		unix.Kill(pid, unix.SIGKILL)
	})
	// The pid is ours until it is waited for, so the kill above cannot hit another process: it is stopped, or over, first.
	waitErr := waitUnreaped(pid)
	if !stop() {
		<-killed
	}
	if waitErr != nil {
		return -1, waitErr
	}
	if _, err := retryWait(pid); err != nil {
		return -1, err
	}
	switch {
	case out.done == 0:
		if out.fd >= 0 {
			unix.Close(int(out.fd))
		}
		if ctx.Err() != nil {
			return -1, ctx.Err()
		}
		return -1, fmt.Errorf("the helper process died")
	case out.errno != 0 && stages[out.stage] != "":
		return -1, fmt.Errorf("%s: %w", stages[out.stage], unix.Errno(out.errno))
	case out.errno != 0:
		return -1, unix.Errno(out.errno)
	}
	return int(out.fd), nil
}

// waitUnreaped waits until the child has ended and leaves it to be reaped.
func waitUnreaped(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT|unix.WALL, nil)
		if err != unix.EINTR {
			return err
		}
	}
}

func retryWait(pid int) (int, error) {
	for {
		reaped, err := unix.Wait4(pid, nil, unix.WALL, nil)
		if err != unix.EINTR {
			return reaped, err
		}
	}
}

// fork makes a child that shares the descriptor table and nothing else, and runs v.child in it.
//
// The child is a copy of one thread of a Go program whose other threads, locks and collector are not there: it may only
// make raw system calls on memory prepared before, on the stack that it has (nosplit), without instrumentation (norace).
// Signals stay blocked in it, so that no Go signal handler runs there. As syscall.forkExec does, without the exec.
func fork(v *visit, out *outcome) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all := ^uint64(0)
	var old uint64
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), 8, 0, 0); errno != 0 {
		return 0, fmt.Errorf("sigprocmask: %w", errno)
	}
	pid, errno := forkChild(v, out)
	unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
	if errno != 0 {
		return 0, fmt.Errorf("clone: %w", errno)
	}
	return pid, nil
}

//go:nosplit
//go:norace
func forkChild(v *visit, out *outcome) (int, unix.Errno) {
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, unix.CLONE_FILES, 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		return int(pid), errno
	}
	v.child(out)
	for {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}

// child does the visit. The mount namespace comes first, by this process's power over it: a target in a user namespace
// nested deeper has none. The ids are set before the user namespace is joined, so that they are those of this process's;
// joining gives all capabilities in it, of which the target's own are kept.
//
//go:nosplit
//go:norace
func (v *visit) child(out *outcome) {
	var errno unix.Errno
	if _, _, errno = unix.RawSyscall(unix.SYS_SETNS, uintptr(v.mount), unix.CLONE_NEWNS, 0); errno != 0 {
		out.fail(stageMount, errno)
		return
	}
	if _, _, errno = unix.RawSyscall(unix.SYS_FCHDIR, uintptr(v.root), 0, 0); errno != 0 {
		out.fail(stageRoot, errno)
		return
	}
	if _, _, errno = unix.RawSyscall(unix.SYS_CHROOT, uintptr(unsafe.Pointer(&dot[0])), 0, 0); errno != 0 {
		out.fail(stageRoot, errno)
		return
	}
	if _, _, errno = unix.RawSyscall(unix.SYS_FCHDIR, uintptr(v.cwd), 0, 0); errno != 0 {
		out.fail(stageCwd, errno)
		return
	}
	var groups uintptr
	if len(v.groups) > 0 {
		groups = uintptr(unsafe.Pointer(&v.groups[0]))
	}
	if _, _, errno = unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(v.groups)), groups, 0); errno != 0 {
		out.fail(stageGroups, errno)
		return
	}
	unix.RawSyscall(unix.SYS_SETFSGID, uintptr(v.gid), 0, 0)
	unix.RawSyscall(unix.SYS_SETFSUID, uintptr(v.uid), 0, 0)
	if _, _, errno = unix.RawSyscall(unix.SYS_SETNS, uintptr(v.user), unix.CLONE_NEWUSER, 0); errno != 0 {
		out.fail(stageUser, errno)
		return
	}
	if _, _, errno = unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&v.header)), uintptr(unsafe.Pointer(&v.caps[0])), 0); errno != 0 {
		out.fail(stageCaps, errno)
		return
	}
	var fd uintptr
	if fd, _, errno = unix.RawSyscall6(unix.SYS_OPENAT, uintptr(v.dir), uintptr(unsafe.Pointer(v.path)), uintptr(v.flags), 0, 0, 0); errno != 0 {
		out.fail(stageOpen, errno)
		return
	}
	out.fd = int32(fd)
	if v.access != 0 {
		if _, _, errno = unix.RawSyscall6(unix.SYS_FACCESSAT2, fd, uintptr(unsafe.Pointer(&nothing[0])), uintptr(v.access), unix.AT_EACCESS|unix.AT_EMPTY_PATH, 0, 0); errno != 0 {
			unix.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
			out.fail(stageAccess, errno)
			return
		}
	}
	out.done = 1
}

// fail is the child's.
//
//go:nosplit
//go:norace
func (o *outcome) fail(stage int32, errno unix.Errno) {
	o.fd = -1
	o.stage = stage
	o.errno = int32(errno)
	o.done = 1
}

// Paths for the child: NUL-terminated, made before any fork.
var (
	dot     = [...]byte{'.', 0}
	nothing = [...]byte{0}
)
