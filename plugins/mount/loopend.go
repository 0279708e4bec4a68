package mount

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// loops are the loop devices that a container was told of. They are cleared when it has ended.
type loops struct {
	init int // a pidfd of the container's first process; -1: there is none

	mu    sync.Mutex
	given map[uint32]bool
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

// take notes that the container is told of a device. It reports whether it may be: another container is not, that
// lives.
func (l *loops) take(ctx context.Context, req *sdk.Request, number uint32) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !loopOwners.of(number).take(l) {
		return false, nil
	}
	if l.given[number] {
		return true, nil
	}
	if err := req.Keep(ctx, fmt.Sprintf(loopKey, number), nil); err != nil {
		return false, err
	}
	l.given[number] = true
	return true, nil
}

const (
	// endTime is how long the first process of a container that has ended may take to be gone.
	endTime = time.Second
	// clearTime is how long the kernel may take to clear the devices of a container.
	clearTime = 2 * time.Second
)

// hasEnded reports whether the container has ended, or ends within this time.
func (l *loops) hasEnded(wait time.Duration) bool {
	poll := []unix.PollFd{{Fd: int32(l.init), Events: unix.POLLIN}}
	for deadline := time.Now().Add(wait); l.init >= 0; {
		left := max(time.Until(deadline), 0)
		n, err := unix.Poll(poll, int(left/time.Millisecond))
		if err != unix.EINTR {
			return err == nil && n == 1
		}
	}
	return false
}

// close clears the devices that a container which has ended has left set up: a session is closed too when the container
// gets other settings. What is still mounted, in a namespace that outlives the container, the kernel clears at its end.
func (l *loops) close(namespace target.NamespaceID) error {
	defer unix.Close(l.init)
	own := slices.DeleteFunc(slices.Collect(maps.Keys(l.given)), func(n uint32) bool { return !loopOwners.of(n).is(l) })
	ended := len(own) > 0 && l.hasEnded(endTime)
	ctx, cancel := context.WithTimeout(context.Background(), clearTime)
	defer cancel()
	var failed []error
	for _, number := range own {
		err := loopOwners.of(number).end(l, func() error {
			if !ended {
				return nil
			}
			return clearLoop(ctx, namespace, number)
		})
		if err != nil {
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

// owner is that of a device. A container with the same number may begin before the session of the one before it is
// closed. It is told of the device only if that is not set up: then nothing of the other's is left to be cleared.
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

// change is for the next session of a container, which takes over what the one before has.
func (o *owner) change(to *loops) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = to
}

// take is change for a device that is not set up, if no other container that lives was told of it.
func (o *owner) take(by *loops) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last != nil && o.last != by && !o.last.hasEnded(0) {
		return false
	}
	o.last = by
	return true
}

func (o *owner) is(l *loops) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last == l
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

// clearLoop clears a device, in a process of its own, since that may wait for the device's file.
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
