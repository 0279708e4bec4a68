package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// The kernel asks for no capability of who sets up a loop device: who can open the device and the file may do it
// (drivers/block/loop.c). So a container does that by itself with a device that its device cgroup lets it open. What it
// lacks is the node, and /dev/loop-control, by which programs ask for a free device. It must not have the latter, by
// which devices of the host are added and removed. So it has an empty file of that name, on which the kernel knows no
// ioctl(2): LOOP_CTL_GET_FREE on it is answered here, and fails (ENOTTY) wherever the plugin does not answer. Nothing
// is kept from the container by the answer, and nothing is lent to it but a node of a device that the operator has
// listed.

const (
	loopMajor = 7
	// loopControlMajor and loopControlMinor are the number of the kernel's own /dev/loop-control (MISC_MAJOR,
	// LOOP_CTRL_MINOR).
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
	if _, err := s.mounter(ctx, req); err != nil {
		return sdk.Response{}, err
	}
	nodes, err := s.nodes.get(ctx, caller, s.policy.loops)
	if err != nil {
		return sdk.Response{}, err
	}
	number, err := s.takeFreeLoop(ctx, req, caller, nodes)
	if err != nil {
		return sdk.Response{}, err
	}
	if err := req.CheckValid(ctx); err != nil {
		return sdk.Response{}, err
	}
	if err := s.showLoop(ctx, caller, nodes, number); err != nil {
		return sdk.Response{}, err
	}
	return sdk.Return(int64(number)), nil
}

// isLoopControl reports whether a descriptor of the caller is one on which programs ask for a loop device: of the empty
// file that stands for /dev/loop-control, or of the kernel's own, if the container was given that. On other regular
// files the kernel knows no such ioctl(2) either.
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

// takeFreeLoop finds a device that is not set up, and that no other container was told of.
func (s *session) takeFreeLoop(ctx context.Context, req *sdk.Request, caller *target.Target, nodes int) (uint32, error) {
	for numbers := slices.Clone(s.policy.loops); ; {
		number, err := s.findFreeLoop(ctx, caller, nodes, numbers)
		if err != nil {
			return 0, err
		}
		taken, err := s.loops.take(ctx, req, number)
		if taken || err != nil {
			return number, err
		}
		numbers = slices.DeleteFunc(numbers, func(n uint32) bool { return n == number })
	}
}

// findFreeLoop finds a device that is not set up. The devices are opened by a process in the caller's cgroups: one that
// their device cgroup denies is passed over, and where a device waits for a file of the container, that
// process alone waits.
func (s *session) findFreeLoop(ctx context.Context, caller *target.Target, nodes int, left []uint32) (uint32, error) {
	refused := refusal{unix.ENOSPC, noFreeLoop, "all are set up, or another container's"}
	for ; len(left) > 0; left = left[1:] {
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

// probeLoops looks at the devices, one after the other, until one cannot be opened or has no size: then it is not set
// up, or by a file of less than a sector, at which the caller gets EBUSY. Its status (LOOP_GET_STATUS64) is not asked
// for, since the kernel asks the file for that.
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
