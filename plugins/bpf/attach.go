package bpf

import (
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// Checks are in the kernel's order (bpf_prog_attach, cgroup_bpf_prog_attach), so that a call with several faults gets
// the kernel's errno.

// attach answers BPF_PROG_ATTACH and BPF_LINK_CREATE.
func (c call) attach(ctx context.Context, parse func(attr) (attachAttr, syscall.Errno)) (sdk.Response, error) {
	at, malformed := parse(c.attr)
	if malformed != 0 {
		return answer(wrong(malformed), nil)
	}
	program, refused, err := c.program(at.program)
	if refused != nil || err != nil {
		return answer(refused, err)
	}
	defer program.close()
	if at.attachType != unix.BPF_CGROUP_DEVICE {
		return answer(refuse(notOfDevices, nil), nil)
	}
	if !program.ofDevice {
		return answer(wrong(unix.EINVAL), nil)
	}
	// What is attached is not to change between the look and the deed.
	if err := enter(ctx, c.attaching); err != nil {
		return sdk.Response{}, err
	}
	defer leave(c.attaching)
	place, refused, err := c.place(at.target)
	if refused != nil || err != nil {
		return answer(refused, err)
	}
	defer place.close()
	replaced := copied{fd: -1}
	if at.replaces() {
		if replaced, refused, err = c.program(at.replaced); refused != nil || err != nil {
			return answer(refused, err)
		}
		defer replaced.close()
		if !replaced.ofDevice {
			return answer(wrong(unix.EINVAL), nil)
		}
	}
	if at.contradicts() {
		return answer(wrong(unix.EINVAL), nil)
	}
	if refused := c.mayAttach(at, place, program.id, replaced.id); refused != nil {
		return answer(refused, nil)
	}
	// The last moment to notice a caller that is gone.
	if err := c.req.CheckValid(ctx); err != nil {
		return sdk.Response{}, err
	}
	if at.link {
		return createLink(program, place)
	}
	if !slices.Contains(place.programs, program.id) {
		if err := c.changing(ctx); err != nil {
			return sdk.Response{}, err
		}
	}
	_, errno := bpf(cmdAttach, &progAttach{
		target: uint32(place.dir), program: uint32(program.fd), attachType: unix.BPF_CGROUP_DEVICE,
		flags: at.flags, replaced: uint32(replaced.fd),
	})
	return answer(kernelSays(errno), nil)
}

// maxAttached is how many programs may be attached to a cgroup here. The kernel's limit is 64 (BPF_CGROUP_MAX_PROGS,
// kernel/bpf/cgroup.c): the host keeps room for its own.
const maxAttached = 32

// mayAttach says why the program is not attached; nil: it is. What the host attached must stay in force, and the host
// must be able to attach more.
func (c call) mayAttach(at attachAttr, p place, program, replaced uint32) *refusal {
	replace := at.replaces()
	overridden, err := c.own.overridden(p.dir)
	switch {
	case err != nil:
		return refuse(unseenPrograms, err)
	case overridden:
		return refuse(wouldOverride, nil)
	case at.flags&unix.BPF_F_ALLOW_MULTI == 0:
		return refuse(notMulti, nil)
	case !c.programs.has(program):
		return refuse(foreignProgram, nil)
	case replace && !slices.Contains(p.programs, replaced):
		return wrong(unix.ENOENT)
	case replace && !c.programs.has(replaced):
		return refuse(foreignProgram, nil)
	case !replace && len(p.programs) >= maxAttached:
		return &refusal{unix.E2BIG, tooManyAttached, fmt.Sprintf("%d are attached to the cgroup", maxAttached)}
	}
	return nil
}

// createLink attaches the program for as long as somebody has the link's descriptor.
func createLink(program copied, p place) (sdk.Response, error) {
	fd, errno := bpf(cmdLink, &linkCreate{target: uint32(p.dir), program: uint32(program.fd), attachType: unix.BPF_CGROUP_DEVICE})
	if errno != 0 {
		return answer(kernelSays(errno), nil)
	}
	return sdk.AddFD(os.NewFile(uintptr(fd), "link"), true), nil
}

// detach answers BPF_PROG_DETACH.
func (c call) detach(ctx context.Context) (sdk.Response, error) {
	at, malformed := parseDetach(c.attr)
	if malformed != 0 {
		return answer(wrong(malformed), nil)
	}
	if at.attachType != unix.BPF_CGROUP_DEVICE {
		return answer(refuse(notOfDevices, nil), nil)
	}
	if err := enter(ctx, c.attaching); err != nil {
		return sdk.Response{}, err
	}
	defer leave(c.attaching)
	place, refused, err := c.place(at.target)
	if refused != nil || err != nil {
		return answer(refused, err)
	}
	defer place.close()
	program, refused, err := c.program(at.program)
	if err != nil {
		return sdk.Response{}, err
	}
	defer program.close()
	if refused := c.mayDetach(place, program.id, refused == nil && program.ofDevice); refused != nil {
		return answer(refused, nil)
	}
	if err := c.req.CheckValid(ctx); err != nil {
		return sdk.Response{}, err
	}
	if err := c.changing(ctx); err != nil {
		return sdk.Response{}, err
	}
	_, errno := bpf(cmdDetach, &progDetach{target: uint32(place.dir), program: uint32(program.fd), attachType: unix.BPF_CGROUP_DEVICE})
	return answer(kernelSays(errno), nil)
}

// mayDetach says why the program is not detached; nil: it is. Where a program is attached in another mode than
// BPF_F_ALLOW_MULTI, the kernel would detach it whichever it was given, or none.
func (c call) mayDetach(p place, program uint32, isProgram bool) *refusal {
	switch {
	case len(p.programs) == 0:
		return wrong(unix.ENOENT)
	case p.flags&unix.BPF_F_ALLOW_MULTI == 0:
		return refuse(foreignProgram, nil)
	case !isProgram:
		return wrong(unix.EINVAL)
	case !slices.Contains(p.programs, program):
		return wrong(unix.ENOENT)
	case !c.programs.has(program):
		return refuse(foreignProgram, nil)
	}
	return nil
}
