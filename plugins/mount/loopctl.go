package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// The kernel asks for no capability of who sets up a loop device: who can open the device and the file may do it
// (drivers/block/loop.c). So a container does that by itself with a device that its device cgroup lets it open. What it
// lacks is the node, and /dev/loop-control, by which programs ask for a free device. It must not have the latter, by
// which devices of the host are added and removed. So it has an empty file of that name, on which the kernel knows no
// ioctl(2): LOOP_CTL_GET_FREE on it is answered here, and fails (ENOTTY) wherever the plugin does not answer. Nothing is
// kept from the container by the answer, and nothing is lent to it but a node of a device that the operator has listed.

const (
	loopMajor = 7
	// loopControlMajor and loopControlMinor are the number of the kernel's own /dev/loop-control (MISC_MAJOR, LOOP_CTRL_MINOR).
	loopControlMajor, loopControlMinor = 10, 237
)

// ioctl answers LOOP_CTL_GET_FREE (loop(4)) with a device of the container's own that nobody has set up, and sees to it
// that the caller has a node of it.
func (s *session) ioctl(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	caller, err := req.Target(ctx)
	if err != nil {
		return sdk.Response{}, err
	}
	control, err := isLoopControl(caller, req.FD(0))
	if err != nil {
		return sdk.Response{}, err
	}
	if !control {
		return next(badArguments, "the descriptor is not of /dev/loop-control")
	}
	if err := s.mayMount(ctx, req); err != nil {
		return sdk.Response{}, err
	}
	nodes, err := s.loops.nodes(caller, s.policy.loops)
	if err != nil {
		return sdk.Response{}, err
	}
	number, err := s.findFreeLoop(ctx, caller, nodes)
	if err != nil {
		return sdk.Response{}, err
	}
	if err := req.CheckValid(ctx); err != nil {
		return sdk.Response{}, err
	}
	if err := s.loops.give(ctx, req, number); err != nil {
		return sdk.Response{}, err
	}
	if err := s.showLoop(ctx, caller, nodes, number); err != nil {
		return sdk.Response{}, err
	}
	return sdk.Return(int64(number)), nil
}

// isLoopControl reports whether a descriptor of the caller is one on which programs ask for a loop device: of the empty
// file that stands for /dev/loop-control, or of the kernel's own, if the container was given that. On other regular files
// the kernel knows no such ioctl(2) either.
func isLoopControl(caller *target.Target, fd int) (bool, error) {
	d, err := caller.OpenDescriptor(fd)
	if errors.Is(err, unix.EBADF) {
		return false, refusal{unix.EBADF, badArguments, ""}
	}
	if err != nil {
		return false, err
	}
	defer d.File.Close()
	st, err := cachedStat(d.File)
	if err != nil || d.Flags&unix.O_PATH != 0 {
		return false, err
	}
	kernels := st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev_major == loopControlMajor && st.Rdev_minor == loopControlMinor
	return kernels || isEmptyFile(st), nil
}

// cachedStat is what the kernel knows of an open file, without asking a filesystem that the container may serve.
func cachedStat(file *os.File) (unix.Statx_t, error) {
	var st unix.Statx_t
	err := unix.Statx(int(file.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE|unix.STATX_SIZE, &st)
	if err != nil {
		err = fmt.Errorf("statx: %w", err)
	}
	return st, err
}

func isEmptyFile(st unix.Statx_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0 }

// findFreeLoop finds a device that is not set up. The devices are opened by a process in the caller's cgroups: one that
// their device cgroup denies is passed over, and where a file of the container behind a device lets it wait, that
// process alone waits.
func (s *session) findFreeLoop(ctx context.Context, caller *target.Target, nodes int) (uint32, error) {
	refused := refusal{unix.ENOSPC, noFreeLoop, "all are set up"}
	for left := s.policy.loops; len(left) > 0; left = left[1:] {
		err := s.probeLoops(ctx, caller, nodes, left)
		if err == nil {
			break
		}
		var failed *target.StepError
		if !errors.As(err, &failed) {
			return 0, err
		}
		at := slices.IndexFunc(left, func(n uint32) bool { return failed.What == openStep(n) || failed.What == sizeStep(n) })
		if at < 0 {
			return 0, errors.New(err.Error())
		}
		left = left[at:]
		if failed.What == sizeStep(left[0]) {
			return left[0], nil
		}
		refused.text = failed.Error()
	}
	return 0, refused
}

func openStep(number uint32) string { return fmt.Sprintf("open of loop%d", number) }
func sizeStep(number uint32) string { return fmt.Sprintf("size of loop%d", number) }

// probeLoops looks at the devices, one after the other, until one cannot be opened or has no size: then it is not set up,
// or by a file of less than a sector, at which the caller gets EBUSY. Its status (LOOP_GET_STATUS64) is not asked for,
// since the kernel asks the file for that.
func (s *session) probeLoops(ctx context.Context, caller *target.Target, nodes int, numbers []uint32) error {
	steps := &target.Steps{}
	steps.KeepOpen(nodes)
	release, err := caller.JoinCgroups(steps, "devices")
	if err != nil {
		return err
	}
	defer release()
	for _, n := range numbers {
		fd := steps.Add(openStep(n), unix.SYS_OPENAT, nodes, strconv.FormatUint(uint64(n), 10),
			unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		steps.Add(sizeStep(n), unix.SYS_LSEEK, fd, 1, unix.SEEK_SET) // EINVAL beyond the end
	}
	return steps.Run(ctx, s.container.UserNamespace)
}

// showLoop sees to it that /dev/loopN is the device for the caller: where it is not there, or is an empty file, the node
// is mounted over that. A node that the caller could make by itself could not be opened.
func (s *session) showLoop(ctx context.Context, caller *target.Target, nodes int, number uint32) error {
	path := fmt.Sprintf("/dev/loop%d", number)
	at, err := openOrMake(ctx, caller, path)
	if err != nil {
		return err
	}
	defer at.Close()
	st, err := cachedStat(at)
	switch {
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev_major == loopMajor && st.Rdev_minor == number:
		return nil
	case !isEmptyFile(st):
		return refusal{unix.EEXIST, noFreeLoop, path + " is another file"}
	}
	if err := s.checkShared(ctx, caller, at); err != nil {
		return err
	}
	tree, err := cloneNode(nodes, number)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	var refused error
	err = caller.Do(target.CapabilitySet(unix.CAP_SYS_ADMIN), func() error {
		refused = unix.MoveMount(tree, "", int(at.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
		return nil
	})
	return errors.Join(err, refuse(refused))
}

// openOrMake opens (O_PATH) what the path leads the caller to, after it has made an empty file there if there was
// nothing, as the caller.
func openOrMake(ctx context.Context, caller *target.Target, path string) (*os.File, error) {
	at, err := openPath(ctx, caller, path)
	if !errors.Is(err, unix.ENOENT) {
		return at, err
	}
	var refused error
	err = caller.Do(0, func() error {
		var dir int
		var name string
		if dir, name, refused = target.OpenParentHere(unix.AT_FDCWD, path); refused != nil {
			return nil
		}
		defer unix.Close(dir)
		if refused = unix.Mknodat(dir, name, unix.S_IFREG|0o600, 0); refused == unix.EEXIST {
			refused = nil
		}
		return nil
	})
	if err != nil || refused != nil {
		return nil, errors.Join(err, refuse(refused))
	}
	return openPath(ctx, caller, path)
}

// loops are what a container has of its loop devices: those that it was told of, which are cleared when it has ended;
// and nodes of all, by their numbers, in a directory of the scratch namespace, on a filesystem of the initial user
// namespace, so that they can be opened. A container mounts one node as often as it likes, which costs no more memory
// of the kernel than the bind mounts that it may make anyway.
type loops struct {
	init int // a pidfd of the container's first process; -1: there is none

	mu    sync.Mutex
	given map[uint32]bool
	path  string
	dir   int // O_PATH
}

// loopKey is the key of the entry of a device that the container was told of.
const loopKey = "loop %d"

// newLoops goes on with what earlier processes have told the container.
func newLoops(p *policy, container sdk.Container) *loops {
	l := &loops{init: -1, given: map[uint32]bool{}}
	for key := range container.Kept {
		var number uint32
		if n, _ := fmt.Sscanf(key, loopKey, &number); n == 1 {
			l.given[number] = true
			loopOwners.of(number).change(l)
		}
	}
	if len(p.loops) == 0 && len(l.given) == 0 {
		return l
	}
	if fd, err := unix.PidfdOpen(container.InitPID, 0); err == nil {
		l.init = fd
	}
	return l
}

// give notes that the container is told of a device.
func (l *loops) give(ctx context.Context, req *sdk.Request, number uint32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	loopOwners.of(number).change(l)
	if l.given[number] {
		return nil
	}
	if err := req.Keep(ctx, fmt.Sprintf(loopKey, number), nil); err != nil {
		return err
	}
	l.given[number] = true
	return nil
}

const (
	// endTime is how long the first process of a container that has ended may take to be gone.
	endTime = time.Second
	// clearTime is how long the kernel may take to clear the devices of a container.
	clearTime = 2 * time.Second
)

// hasEnded reports whether the container has ended: a session is closed too when the container gets other settings.
func (l *loops) hasEnded() bool {
	poll := []unix.PollFd{{Fd: int32(l.init), Events: unix.POLLIN}}
	for deadline := time.Now().Add(endTime); l.init >= 0; {
		left := time.Until(deadline)
		n, err := unix.Poll(poll, int(max(left, 0)/time.Millisecond))
		if err != unix.EINTR {
			return err == nil && n == 1
		}
	}
	return false
}

// close clears the devices that a container which has ended has left set up. What is still mounted, in a namespace that
// outlives the container, is cleared by the kernel at its end. The nodes that are mounted stay.
func (l *loops) close(namespace target.NamespaceID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer unix.Close(l.init)
	if l.path != "" {
		unix.Close(l.dir)
		os.RemoveAll(l.path)
	}
	if len(l.given) == 0 || !l.hasEnded() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), clearTime)
	defer cancel()
	var failed []error
	for number := range l.given {
		if err := loopOwners.of(number).end(l, func() error { return clearLoop(ctx, namespace, number) }); err != nil {
			failed = append(failed, fmt.Errorf("loop%d is not cleared: %w", number, err))
		}
	}
	return errors.Join(failed...)
}

// loopOwners has, for each device, the container that was told of it last.
var loopOwners owners

type owners struct {
	mu    sync.Mutex
	loops map[uint32]*owner
}

// owner is that of a device. A container with the same number may begin before the one before it is known to have ended.
// It is told of the device only if that is not set up: then nothing of the other's is left to be cleared.
type owner struct {
	mu   sync.Mutex
	last *loops
}

func (o *owners) of(number uint32) *owner {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.loops == nil {
		o.loops = map[uint32]*owner{}
	}
	if o.loops[number] == nil {
		o.loops[number] = &owner{}
	}
	return o.loops[number]
}

func (o *owner) change(to *loops) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = to
}

// end calls clear if the device is still this container's. Nobody becomes its owner meanwhile.
func (o *owner) end(of *loops, clear func() error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last != of {
		return nil
	}
	o.last = nil
	return clear()
}

// clearLoop clears a device, in a process of its own, since that may wait for the file behind it.
func clearLoop(ctx context.Context, namespace target.NamespaceID, number uint32) error {
	scratch, err := openScratch()
	if err != nil {
		return err
	}
	const name = "loop"
	root, err := scratch.place(name, unix.Mkdev(loopMajor, number))
	if err != nil {
		return err
	}
	defer root.close()
	steps := &target.Steps{}
	steps.KeepOpen(root.dir)
	fd := steps.Add("open", unix.SYS_OPENAT, root.dir, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	steps.Add("clear", unix.SYS_IOCTL, fd, unix.LOOP_CLR_FD, 0)
	err = steps.Run(ctx, namespace)
	if errors.Is(err, unix.ENXIO) { // it is not set up, or not there any more
		return nil
	}
	return err
}

// nodes makes the directory, with a node of each device, the first time. They belong to who asks first: to the
// container's root, as a rule, or else to a user of the container who has its privilege.
func (l *loops) nodes(caller *target.Target, numbers []uint32) (dir int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.path != "" {
		return l.dir, nil
	}
	scratch, err := openScratch()
	if err != nil {
		return -1, err
	}
	path := fmt.Sprintf("/proc/self/fd/%d/%d", scratch.root, names.Add(1))
	if err := unix.Mkdir(path, 0o700); err != nil {
		return -1, &os.PathError{Op: "mkdir", Path: path, Err: err}
	}
	if dir, err = openLoops(caller, path, numbers); err != nil {
		os.RemoveAll(path)
		return -1, fmt.Errorf("nodes of loop devices: %w", err)
	}
	l.path, l.dir = path, dir
	return dir, nil
}

func openLoops(caller *target.Target, path string, numbers []uint32) (int, error) {
	if err := os.Chmod(path, 0o777); err != nil { // it is below one that is this process's alone
		return -1, err
	}
	dir, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = caller.Do(target.CapabilitySet(unix.CAP_MKNOD), func() error {
		for _, n := range numbers {
			name := strconv.FormatUint(uint64(n), 10)
			if err := unix.Mknodat(dir, name, unix.S_IFBLK|0o600, int(unix.Mkdev(loopMajor, n))); err != nil {
				return err
			}
			if err := unix.Fchmodat(dir, name, 0o600, 0); err != nil { // whatever the caller's umask is
				return err
			}
		}
		return nil
	})
	if err != nil {
		unix.Close(dir)
	}
	return dir, err
}

// cloneNode gives a node as a detached mount, which a thread makes in the scratch namespace.
func cloneNode(nodes int, number uint32) (tree int, err error) {
	scratch, err := openScratch()
	if err != nil {
		return -1, err
	}
	done := make(chan struct{})
	target.GoOnThread(func() {
		defer close(done)
		if err = unix.Unshare(unix.CLONE_FS); err != nil {
			return
		}
		if err = unix.Setns(scratch.namespace, unix.CLONE_NEWNS); err != nil {
			return
		}
		tree, err = unix.OpenTree(nodes, strconv.FormatUint(uint64(number), 10), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	})
	<-done
	if err != nil {
		return -1, fmt.Errorf("a mount of the node of loop%d: %w", number, err)
	}
	return tree, nil
}
