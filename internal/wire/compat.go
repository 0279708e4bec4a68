package wire

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Multiplexer is one call of i386's socketcall(2) or ipc(2): its first argument says which call it is, and the
// arguments of that are in memory for socketcall, and in other registers than those of the call itself for ipc.
type Multiplexer struct {
	Name  string // of the system call that stands for many
	Mask  uint32 // what of its first argument says which one
	Value uint32
}

const (
	socketcallMask = 0xffffffff
	ipcMask        = 0xffff // above is a version of the call (ksys_ipc, ipc/syscall.c)
)

// multiplexed are the calls that i386 programs reach by a multiplexer too, if not by that alone
// (include/uapi/linux/net.h, include/uapi/linux/ipc.h).
var multiplexed = map[string]Multiplexer{
	"socket": socketcall(1), "bind": socketcall(2), "connect": socketcall(3), "listen": socketcall(4), "accept": socketcall(5),
	"getsockname": socketcall(6), "getpeername": socketcall(7), "socketpair": socketcall(8), "send": socketcall(9),
	"recv": socketcall(10), "sendto": socketcall(11), "recvfrom": socketcall(12), "shutdown": socketcall(13),
	"setsockopt": socketcall(14), "getsockopt": socketcall(15), "sendmsg": socketcall(16), "recvmsg": socketcall(17),
	"accept4": socketcall(18), "recvmmsg": socketcall(19), "sendmmsg": socketcall(20),
	"semop": ipc(1), "semget": ipc(2), "semctl": ipc(3), "semtimedop": ipc(4), "msgsnd": ipc(11), "msgrcv": ipc(12),
	"msgget": ipc(13), "msgctl": ipc(14), "shmat": ipc(21), "shmdt": ipc(22), "shmget": ipc(23), "shmctl": ipc(24),
}

func socketcall(value uint32) Multiplexer { return Multiplexer{"socketcall", socketcallMask, value} }

func ipc(value uint32) Multiplexer { return Multiplexer{"ipc", ipcMask, value} }

// MultiplexerOf is how i386 programs reach the call without its own number; ok is false if they cannot.
func MultiplexerOf(name string) (m Multiplexer, ok bool) {
	m, ok = multiplexed[name]
	return m, ok
}

// x32Bit marks x32 calls, whose notifications have AUDIT_ARCH_X86_64 (__X32_SYSCALL_BIT, asm/unistd.h).
const x32Bit = 0x40000000

// IsNative reports whether a call has the numbers and the layouts of 64-bit programs: not i386's, Arm's or x32's.
func IsNative(arch uint32, nr int32) bool {
	return is64Bit(arch) && !(arch == unix.AUDIT_ARCH_X86_64 && nr&x32Bit != 0)
}

// The numbers of the multiplexers (arch/x86/entry/syscalls/syscall_32.tbl).
const (
	socketcallNumber = 102
	ipcNumber        = 117
)

// IsMultiplexed reports whether the number is that of socketcall(2) or ipc(2) on i386.
func IsMultiplexed(arch uint32, nr int32) bool {
	return arch == unix.AUDIT_ARCH_I386 && (nr == socketcallNumber || nr == ipcNumber)
}

// checkCompat says what is wrong with a syscall's compat.
func checkCompat(s *Syscall) error {
	if _, known := Compat_name[int32(s.GetCompat())]; !known {
		return fmt.Errorf("compat %d: want take, refuse or continue", s.GetCompat())
	}
	if m, ok := MultiplexerOf(s.GetName()); ok && s.GetCompat() == Compat_COMPAT_TAKE {
		return fmt.Errorf("i386 programs reach it through %s(2) too, which hides the arguments: "+
			"say whether such calls are refused or continue (compat)", m.Name)
	}
	return nil
}
