package caller

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// mapLow has memory below 4 GiB.
const mapLow = unix.MAP_32BIT

// getpid32 is getpid(2) of i386.
const getpid32 = 20

// int80 makes a call of i386: the kernel takes that from 64-bit programs too (entry_INT80_compat,
// arch/x86/entry/entry_64_compat.S). The Go runtime does not know that the thread waits.
func int80(number, a1, a2, a3, a4, a5, a6 uintptr) uintptr

func makeCompat(number int32, r [6]uintptr) Result {
	value := int32(int80(uintptr(number), r[0], r[1], r[2], r[3], r[4], r[5]))
	if value < 0 && value >= -4095 {
		return Result{Value: -1, Errno: syscall.Errno(-value)}
	}
	return Result{Value: int64(value)}
}
