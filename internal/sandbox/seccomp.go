package sandbox

import (
	"maps"
	"slices"

	"github.com/intercede/intercede/internal/cbpf"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/internal/syscalls"
	"golang.org/x/sys/unix"
)

// condition holds if the argument is the value where the mask has ones.
type condition struct {
	arg         uint32
	mask, value uint64
}

// int32Bits are those of an int: the kernel looks at no others.
const int32Bits = 0xffffffff

// ordinary are the uses that need no declaration of calls that otherwise do: those for which all conditions of one line
// hold.
var ordinary = map[string][][]condition{
	"clone":   {{{0, unix.CLONE_NEWUSER, 0}}},
	"unshare": {{{0, unix.CLONE_NEWUSER, 0}}},
	"setns":   {{{1, int32Bits, unix.CLONE_NEWNS}}}, // 0 would take a user namespace too
	"socket":  {{{0, int32Bits, unix.AF_UNIX}}},
	// With CAP_SYS_ADMIN others freeze a filesystem, or open its files by handle, of which the process has any file:
	// its binary, for example. What is here is common to all descriptors, or tells who owns a namespace
	// (ioctl_nsfs(2)).
	"ioctl": {
		{{1, int32Bits, unix.TCGETS}}, {{1, int32Bits, fionread}}, {{1, int32Bits, fionbio}}, {{1, int32Bits, fioclex}},
		{{1, int32Bits, fionclex}},
		{{1, 0xfff8, nsfsType}}, {{1, 0xfffe, nsfsType | 8}}, // 0 to 9
	},
}

// withDeclaration are the uses that need a declaration of calls that otherwise need none. Who has the host's root as
// its filesystem user owns whatever of the host it can name, in a sysfs for example.
var withDeclaration = map[string]condition{
	"setfsuid": {0, int32Bits, 0},
	"setfsgid": {0, int32Bits, 0},
}

// As in asm-generic/ioctls.h, which all architectures of the project have.
const (
	fionread = 0x541b
	fionbio  = 0x5421
	fionclex = 0x5450
	fioclex  = 0x5451
)

// nsfsType is the type in the numbers of nsfs's ioctls (linux/nsfs.h).
const nsfsType = 0xb7 << 8

// forbidden are refused, declared or not: NS_MNT_GET_NEXT and NS_MNT_GET_PREV lead from any mount namespace to the
// host's (ioctl_nsfs(2), kernel 6.12), for who has CAP_SYS_ADMIN.
var forbidden = []condition{{1, 0xffff, nsfsType | 11}, {1, 0xffff, nsfsType | 12}}

// filterProgram is the seccomp filter of a process that declares these system calls: others that are to be declared
// are refused by this action, those of other architectures kill.
//
// One execveat is let through, which executes the plugin: that of the descriptor binary. The process can have it only
// once, because the descriptor is above the limit on descriptors, and is closed by it.
//
// What a newer kernel has is not there (ENOSYS), nor is clone3, whose flags a filter cannot see: clone is called then.
func filterProgram(declared []string, binary int, refused uint32) *cbpf.Program {
	p := &cbpf.Program{}
	foreign := p.NewLabel()
	p.LoadArch()
	p.JumpUnless(auditArch, foreign)
	p.LoadNumber()
	p.And(x32Bits)
	p.JumpUnless(0, foreign)

	returnWhen(p, unix.SECCOMP_RET_ALLOW, unix.SYS_EXECVEAT, condition{0, int32Bits, uint64(binary)}, condition{4, int32Bits, unix.AT_EMPTY_PATH})
	for _, ioctl := range forbidden {
		returnWhen(p, refused, unix.SYS_IOCTL, ioctl)
	}
	undeclared := maps.Clone(syscalls.Numbers)
	for _, name := range declared {
		delete(undeclared, name)
	}
	for _, name := range slices.Sorted(maps.Keys(undeclared)) {
		for _, use := range ordinary[name] {
			returnWhen(p, unix.SECCOMP_RET_ALLOW, undeclared[name], use...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(withDeclaration)) {
		if number, ok := undeclared[name]; ok {
			returnWhen(p, refused, number, withDeclaration[name])
			delete(undeclared, name)
		}
	}
	p.LoadNumber()
	for _, name := range slices.Sorted(maps.Keys(undeclared)) {
		next := p.NewLabel()
		p.JumpUnless(undeclared[name], next)
		if name == "clone3" {
			p.Return(notThere)
		} else {
			p.Return(refused)
		}
		p.Place(next)
	}
	newer := p.NewLabel()
	p.JumpIfAbove(syscalls.Last, newer)
	p.Return(unix.SECCOMP_RET_ALLOW)
	p.Place(newer)
	p.Return(notThere)
	p.Place(foreign)
	p.Return(unix.SECCOMP_RET_KILL_PROCESS)
	return p
}

// returnWhen ends the program with the action if it is the call and all conditions hold.
func returnWhen(p *cbpf.Program, action, number uint32, conditions ...condition) {
	next := p.NewLabel()
	p.LoadNumber()
	p.JumpUnless(number, next)
	for _, c := range conditions {
		p.JumpUnlessArgument(c.arg, c.mask, c.value, false, next)
	}
	p.Return(action)
	p.Place(next)
}

// How calls are refused: by an errno, or by the broker, see answerRefusals.
const (
	withErrno = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	byBroker  = unix.SECCOMP_RET_USER_NOTIF
	notThere  = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// loadFilter loads the filter on the calling thread. Where the broker is to refuse, it gets the listener.
func (r *restrictions) loadFilter(binary int) error {
	if r.Served {
		filter, err := filterProgram(r.Syscalls, binary, byBroker).Assemble()
		if err != nil {
			return err
		}
		listener, err := notify.Load(filter, 0)
		if err != nil {
			return err
		}
		return sendListener(listener)
	}
	filter, err := filterProgram(r.Syscalls, binary, withErrno).Assemble()
	if err != nil {
		return err
	}
	return linux.LoadFilter(filter)
}

// x32Bits are those of which one is set in the numbers of x32, a third architecture in the guise of x86_64
// (__X32_SYSCALL_BIT, asm/unistd.h), and in negative ones. No other architecture has numbers as large.
const x32Bits = 0xc0000000
