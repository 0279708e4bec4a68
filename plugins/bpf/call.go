package main

import (
	"context"
	"errors"
	"syscall"

	"github.com/hashicorp/go-hclog"
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

// readAttr is the attr that the caller gave. Its size is an unsigned int, where the declared read takes the whole register.
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

// refuse is the errno for what the kernel would do for the host's root, and the plugin does not. Err is why that is so,
// where it is not the plugin's own decision.
func (c call) refuse(reason string, err error) syscall.Errno {
	hclog.Default().Debug("refused", "container", c.req.Container.ID, "tid", c.req.TID, "reason", reason, "error", err)
	return unix.EPERM
}

// answer is the response for an errno of the kernel's, or 0.
func answer(errno syscall.Errno, err error) (sdk.Response, error) {
	switch {
	case err != nil:
		return sdk.Response{}, err
	case errno != 0:
		return sdk.Errno(errno), nil
	}
	return sdk.Return(0), nil
}

// descriptor copies a descriptor of the caller. The errno is EBADF if it has none such.
func (c call) descriptor(fd int) (int, syscall.Errno, error) {
	copied, err := c.caller.Descriptor(fd)
	if errors.Is(err, unix.EBADF) {
		return -1, unix.EBADF, nil
	}
	return copied, 0, err
}

// copied is a copy of a caller's descriptor of a program.
type copied struct {
	fd int
	id uint32 // of the program
}

func (p copied) close() { unix.Close(p.fd) }

// program copies a descriptor of a program. The errno is EBADF, or EINVAL if it is of something else.
func (c call) program(fd int) (copied, syscall.Errno, error) {
	number, errno, err := c.descriptor(fd)
	p := copied{fd: number}
	if errno != 0 || err != nil {
		return p, errno, err
	}
	if p.id, errno = programID(p.fd); errno != 0 {
		p.close()
		return copied{fd: -1}, errno, nil
	}
	return p, 0, nil
}

// place is a copy of a caller's descriptor of a cgroup, which is the container's own or below it, and what is attached there.
type place struct {
	dir int
	attached
}

func (p place) close() { unix.Close(p.dir) }

// place copies a descriptor of a cgroup. The errno is EBADF if it is of something else, and EPERM for a cgroup that is not the
// container's.
func (c call) place(fd int) (place, syscall.Errno, error) {
	dir, errno, err := c.descriptor(fd)
	if errno != 0 || err != nil {
		return place{}, errno, err
	}
	p := place{dir: dir}
	// The kernel says first whether it is a cgroup: a filesystem that the container serves may never answer.
	if p.attached, errno = queryAttached(dir); errno == 0 {
		errno = c.checkOwn(dir)
	}
	if errno != 0 {
		p.close()
		return place{}, errno, nil
	}
	return p, 0, nil
}

func (c call) checkOwn(dir int) syscall.Errno {
	if c.own == nil {
		return c.refuse("the container has no cgroup of its own", nil)
	}
	if inside, err := c.own.holds(dir); !inside {
		return c.refuse("the cgroup is not the container's", err)
	}
	return 0
}
