package filter

import (
	"fmt"

	"github.com/intercede/intercede/internal/cbpf"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// Program is the seccomp program that notifies what the manifests take and allows all else, on every architecture of
// this machine; one that it does not know is allowed as well, since the program forbids nothing. Reserved are calls
// that no plugin may take, since the loader itself makes them before the listener has a reader.
//
// The code is made here and not by libseccomp, which (2.5.0 to 2.6.1) shares instructions between architectures without
// regard to what they expect in the accumulator, so that calls with several conditions are missed, and which cannot add
// a call that it has no name for to any but the native architecture.
func Program(manifests []*wire.Manifest, reserved []string) ([]unix.SockFilter, error) {
	captures, err := collect(manifests)
	if err != nil {
		return nil, err
	}
	if err := refuse(captures, reserved, "intercede makes it itself while it starts the container"); err != nil {
		return nil, err
	}
	program, err := write(captures).Assemble()
	if err != nil {
		return nil, fmt.Errorf("%w: enable fewer plugins", err) // it can only be too long
	}
	return program, nil
}

// write writes the program: a block for each architecture. Calls that no block mentions are allowed whatever their
// arguments, which the kernel notices when it loads the program, and no longer runs it for them (seccomp_cache_prepare,
// kernel/seccomp.c).
func write(captures []*capture) *cbpf.Program {
	program := &cbpf.Program{}
	for _, a := range architectures {
		next := program.NewLabel()
		program.LoadArch()
		program.JumpUnless(a.audit, next)
		program.LoadNumber()
		for _, c := range captures {
			if nr, ok := c.numbers[a]; ok {
				c.write(program, nr, a.narrow)
			}
		}
		program.Place(next)
	}
	program.Return(unix.SECCOMP_RET_ALLOW)
	return program
}

// write decides a call by its arguments if it has this number, which was loaded, and goes on if not.
func (c *capture) write(program *cbpf.Program, nr int32, narrow bool) {
	other := program.NewLabel()
	program.JumpUnless(uint32(nr), other)
	matches := c.matches
	if len(matches) == 0 {
		matches = []match{{}} // it has no condition that could fail
	}
	for _, m := range matches {
		fails := program.NewLabel()
		for _, c := range m {
			program.JumpUnlessArgument(c.arg, c.mask, c.value, narrow, fails)
		}
		program.Return(unix.SECCOMP_RET_USER_NOTIF)
		program.Place(fails)
	}
	program.Return(unix.SECCOMP_RET_ALLOW)
	program.Place(other)
}
