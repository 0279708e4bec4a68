package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// procmapQuery is struct procmap_query (include/uapi/linux/fs.h).
type procmapQuery struct {
	size, flags, address             uint64
	start, end, vmaFlags, pageSize   uint64
	offset, inode                    uint64
	major, minor, nameSize, buildLen uint32
	name, buildID                    uint64
}

const (
	procmapQueryIoctl    = 0xc0686611 // PROCMAP_QUERY: _IOWR('f', 17, struct procmap_query)
	procmapQueryWritable = 2          // PROCMAP_QUERY_VMA_WRITABLE
)

// WritableMapping returns the end of the mapping that has the address, if its owner may write there, and whether it
// is of a file, by a descriptor of /proc/TID/maps (kernel 6.11). The error is ENOENT if there is none, ENOTTY on
// older kernels.
func WritableMapping(maps int, address uint64) (end uint64, ofFile bool, err error) {
	query := procmapQuery{flags: procmapQueryWritable, address: address}
	query.size = uint64(unsafe.Sizeof(query))
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(maps), procmapQueryIoctl, uintptr(unsafe.Pointer(&query)))
	if errno != 0 {
		return 0, false, errno
	}
	return query.end, query.inode != 0, nil
}
