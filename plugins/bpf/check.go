package bpf

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// changingKey is the key under which the broker keeps the call that is about to attach or detach a program which is not
// attached, or is: a container has one such call at a time. If the call is shown to another process, what the kernel
// says then tells whether it was done.
const changingKey = "changing"

// changing keeps that the call is about to change what is attached.
func (c call) changing(ctx context.Context) error {
	return c.req.Keep(ctx, changingKey, binary.NativeEndian.AppendUint64(nil, c.req.ID))
}

// changed is the call that an earlier process was about to attach or detach a program for; 0: none.
func changed(kept map[string][]byte) (id uint64) {
	if value := kept[changingKey]; len(value) == 8 {
		id = binary.NativeEndian.Uint64(value)
	}
	return id
}

// Check implements sdk.Checker: whether a program was attached, or detached. All other calls make descriptors, which
// died with the process, and with them what it loaded and linked; or they ask.
//
// What the container changes otherwise meanwhile, by another call or a descriptor of its cgroup, changes no more than
// what its own call returns.
func (s *session) Check(ctx context.Context, req *sdk.Request) (sdk.Response, bool, error) {
	command := req.Uint32(0)
	if s.changed == 0 || s.changed != req.ID || command != cmdAttach && command != cmdDetach {
		return sdk.Response{}, false, nil
	}
	a, fault, err := readAttr(ctx, req)
	if err != nil || fault != 0 {
		return sdk.Response{}, false, err
	}
	privileged, err := req.Privileged(ctx, unix.CAP_SYS_ADMIN)
	if err != nil || !privileged {
		return sdk.Response{}, false, err
	}
	caller, err := req.Target(ctx)
	if err != nil {
		return sdk.Response{}, false, err
	}
	c := call{session: s, req: req, caller: caller, attr: a}
	parse := parseAttach
	if command == cmdDetach {
		parse = parseDetach
	}
	at, malformed := parse(a)
	if malformed != 0 {
		return sdk.Response{}, false, nil
	}
	attached, err := c.isAttached(at)
	return sdk.Return(0), err == nil && attached == (command == cmdAttach), err
}

// isAttached reports whether the program of the attr is attached to its cgroup.
func (c call) isAttached(at attachAttr) (bool, error) {
	program, refused, err := c.program(at.program)
	if refused != nil || err != nil {
		return false, err
	}
	defer program.close()
	place, refused, err := c.place(at.target)
	if refused != nil || err != nil {
		return false, err
	}
	defer place.close()
	return slices.Contains(place.programs, program.id), nil
}
