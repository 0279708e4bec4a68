package bpf

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// call is one call of a privileged caller.
type call struct {
	*session
	req    *sdk.Request
	caller *target.Target
	attr   attr
}

// readAttr is the attr that the caller gave. Its size is an unsigned int, where the declared read takes the whole
// register.
func readAttr(ctx context.Context, req *sdk.Request) (attr, syscall.Errno, error) {
	data, fault := req.Bytes(1)
	if fault == unix.E2BIG && req.Uint32(2) <= maxAttr {
		var err error
		if data, fault, err = req.Read(ctx, req.Pointer(1), int(req.Uint32(2))); err != nil {
			return attr{}, 0, err
		}
	}
	return newAttr(data), fault, nil
}

// Descriptors of the caller are never copied: closing the copy of one that the caller exchanged meanwhile would wait
// for a filesystem that it serves (FUSE), for ever if that wants it, in a way that not even SIGKILL ends.

// copied is a descriptor of the program that one of the caller's is of.
type copied struct {
	programInfo
	fd int // -1: the program was not loaded for the container
}

func (p copied) close() {
	if p.fd >= 0 {
		unix.Close(p.fd)
	}
}

// program opens the program of a caller's descriptor. It is refused with EBADF if there is no such descriptor, or with
// EINVAL if it is of something else.
func (c call) program(fd int) (copied, *refusal, error) {
	p := copied{fd: -1}
	d, err := c.caller.OpenDescriptor(fd)
	if errors.Is(err, unix.EBADF) {
		return p, wrong(unix.EBADF), nil
	}
	if err != nil {
		return p, nil, err
	}
	defer d.File.Close()
	var errno syscall.Errno
	if p.programInfo, errno = programOf(int(d.File.Fd()), string(d.Info)); errno != 0 {
		return p, wrong(errno), nil
	}
	if !c.programs.has(p.id) {
		return p, nil, nil
	}
	p.fd, errno = programByID(p.id)
	return p, kernelSays(errno), nil
}

// place is the cgroup that a caller's descriptor is of, which is the container's own or below it, and what is
// attached there.
type place struct {
	dir int // O_PATH, which is all that the kernel wants
	attached
}

func (p place) close() { unix.Close(p.dir) }

// place opens the cgroup of a caller's descriptor. It is refused with EBADF if it is of something else, and with EPERM
// if the cgroup is not the container's.
func (c call) place(fd int) (place, *refusal, error) {
	d, err := c.caller.OpenDescriptor(fd)
	if errors.Is(err, unix.EBADF) {
		return place{}, wrong(unix.EBADF), nil
	}
	if err != nil {
		return place{}, nil, err
	}
	defer d.File.Close()
	dir, err := unix.FcntlInt(d.File.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return place{}, nil, fmt.Errorf("copy a descriptor: %w", err)
	}
	p := place{dir: dir}
	// The kernel says first whether it is a cgroup: a filesystem that the container serves may never answer.
	var errno syscall.Errno
	p.attached, errno = queryAttached(dir)
	refused := wrong(errno)
	if refused == nil {
		refused = c.checkOwn(dir)
	}
	if refused != nil {
		p.close()
		return place{}, refused, nil
	}
	return p, nil, nil
}

func (c call) checkOwn(dir int) *refusal {
	if c.own == nil {
		return refuse(noOwnCgroup, nil)
	}
	if inside, err := c.own.holds(dir); !inside {
		return refuse(foreignCgroup, err)
	}
	return nil
}
