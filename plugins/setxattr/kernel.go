package setxattr

import (
	"sync"

	"golang.org/x/sys/unix"
)

// kernelHasXattrat reports whether the kernel has setxattrat(2) and its kin, which came together in 6.13. A call that
// it does not have is notified all the same, and has to fail with ENOSYS as every other call of that number does.
var kernelHasXattrat = sync.OnceValue(func() bool {
	// A struct xattr_args of no bytes is EINVAL.
	_, _, errno := unix.Syscall6(unix.SYS_SETXATTRAT, 0, 0, 0, 0, 0, 0)
	return errno != unix.ENOSYS
})
