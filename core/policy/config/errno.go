package config

import (
	"maps"
	"slices"
	"syscall"

	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

var errnos = func() map[string]syscall.Errno {
	names := map[string]syscall.Errno{
		"EWOULDBLOCK": unix.EWOULDBLOCK,
		"EDEADLOCK":   unix.EDEADLOCK,
		"ENOTSUP":     unix.ENOTSUP,
	}
	for errno := syscall.Errno(1); errno <= wire.MaxErrno; errno++ {
		if name := unix.ErrnoName(errno); name != "" {
			names[name] = errno
		}
	}
	return names
}()

var errnoNames = slices.Sorted(maps.Keys(errnos))

// parseErrno is the errno of a name of errno(3), such as "EPERM"; unix.ErrnoName is the way back.
func parseErrno(name string) (errno syscall.Errno, ok bool) {
	errno, ok = errnos[name]
	return errno, ok
}
