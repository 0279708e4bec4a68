package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// showLoop sees to it that /dev/loopN is the device for the caller: where it is not there, or is an empty file, the
// node is mounted over that. A node that the caller could make by itself could not be opened.
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

// loopNodes are the nodes of a container's loop devices, by their numbers, in a directory of the scratch namespace: on
// a filesystem of the initial user namespace, so that they can be opened. A container mounts one node as often as it
// likes, which costs no more memory of the kernel than the bind mounts that it may make anyway.
type loopNodes struct {
	mu   sync.Mutex
	path string
	dir  int // O_PATH
}

// get makes the directory, with a node of each device, the first time. They belong to who asks first: to the
// container's root, as a rule, or else to a user of the container who has its privilege.
func (l *loopNodes) get(ctx context.Context, caller *target.Target, numbers []uint32) (dir int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.path != "" {
		return l.dir, nil
	}
	namespace, err := caller.UserNamespace()
	if err != nil {
		return -1, err
	}
	if err := makeLowLoops(ctx, namespace); err != nil {
		return -1, err
	}
	scratch, err := openScratch()
	if err != nil {
		return -1, err
	}
	dir, path, err := scratch.makeDirectory()
	if err != nil {
		return -1, err
	}
	if err := makeLoops(caller, dir, path, numbers); err != nil {
		unix.Close(dir)
		os.RemoveAll(path)
		return -1, fmt.Errorf("nodes of loop devices: %w", err)
	}
	l.path, l.dir = path, dir
	return dir, nil
}

func makeLoops(caller *target.Target, dir int, path string, numbers []uint32) error {
	if err := os.Chmod(path, 0o777); err != nil { // it is below one that is this process's alone
		return err
	}
	return caller.Do(target.CapabilitySet(unix.CAP_MKNOD), func() error {
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
}

// lowLoops are the devices that are left to programs of the host: those below this number.
const lowLoops = 64

// lowTime is how long it may take to open them.
const lowTime = time.Second

// lowNodes is a directory (O_PATH) in the scratch namespace with nodes of them.
var lowNodes = sync.OnceValues(func() (int, error) {
	scratch, err := openScratch()
	if err != nil {
		return -1, err
	}
	dir, _, err := scratch.makeDirectory()
	for n := 0; n < lowLoops && err == nil; n++ {
		err = unix.Mknodat(dir, strconv.Itoa(n), unix.S_IFBLK|0o600, int(unix.Mkdev(loopMajor, uint32(n))))
	}
	return dir, err
})

// makeLowLoops sees to it that the low devices are there: the kernel makes one when its node is opened (loop_probe,
// drivers/block/loop.c). A program of the host is given the lowest device that is not set up, and a new one only if
// there is none: it would be given the container's, which the container can open already.
//
// Where the kernel makes none in this way (max_loop), it has made so many as the operator wants. Then, and where it
// takes too long, the container is served all the same.
func makeLowLoops(ctx context.Context, namespace target.NamespaceID) error {
	nodes, err := lowNodes()
	if err != nil {
		return fmt.Errorf("nodes of low loop devices: %w", err)
	}
	steps := &target.Steps{}
	steps.KeepOpen(nodes)
	for n := range lowLoops {
		fd := steps.Add("open", unix.SYS_OPENAT, nodes, strconv.Itoa(n), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		steps.Add("close", unix.SYS_CLOSE, fd)
	}
	limited, cancel := context.WithTimeout(ctx, lowTime)
	defer cancel()
	err = steps.Run(limited, namespace)
	var failed *target.StepError
	if errors.As(err, &failed) || errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil
	}
	return err
}

// close leaves the nodes that are mounted.
func (l *loopNodes) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.path != "" {
		unix.Close(l.dir)
		os.RemoveAll(l.path)
	}
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
