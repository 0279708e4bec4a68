package linux

import (
	"bytes"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// pageSize bounds how far a string read goes at a time: a page is readable as a whole or not at all.
var pageSize = uint64(os.Getpagesize())

// ReadMemory copies len(buf) bytes at address of the thread tid's memory (process_vm_readv(2), which honours page
// protection as /proc/TID/mem does not). The errno is 0, EFAULT if any byte cannot be read, ESRCH if the thread is
// gone, or EPERM. The caller of ReadMemory makes sure, before and after, that tid is still who it means.
func ReadMemory(tid int, address uint64, buf []byte) unix.Errno {
	n, errno := readSome(tid, address, buf)
	if errno == 0 && n < len(buf) {
		return unix.EFAULT
	}
	return errno
}

// firstChunk is as much of a string as is read at first, in bytes: most are not longer.
const firstChunk = 256

// AppendString appends to dst the NUL-terminated string at address, at most max bytes with its NUL, which it leaves
// out. The errno is ENAMETOOLONG if there is no NUL within max bytes, and otherwise as ReadMemory's; dst is then
// returned as it was.
func AppendString(dst []byte, tid int, address uint64, max int) ([]byte, unix.Errno) {
	text, limit := dst, firstChunk
	for left := max; left > 0; {
		chunk := min(int(pageSize-address%pageSize), left, limit)
		start := len(text)
		text = slices.Grow(text, chunk)[:start+chunk]
		n, errno := readSome(tid, address, text[start:])
		if errno != 0 {
			return dst, errno
		}
		if end := bytes.IndexByte(text[start:start+n], 0); end >= 0 {
			return text[:start+end], 0
		}
		if n < chunk {
			return dst, unix.EFAULT
		}
		address, left, limit = address+uint64(chunk), left-chunk, int(pageSize)
	}
	return dst, unix.ENAMETOOLONG
}

// readSome copies as much of buf as is readable from its start.
func readSome(tid int, address uint64, buf []byte) (int, unix.Errno) {
	if len(buf) == 0 {
		return 0, 0
	}
	local := []unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}}
	remote := []unix.RemoteIovec{{Base: uintptr(address), Len: len(buf)}}
	n, err := unix.ProcessVMReadv(tid, local, remote, 0)
	return n, toErrno(err)
}

// WriteMemory copies data to address in the thread tid's memory (process_vm_writev(2)). The errno is as ReadMemory's.
func WriteMemory(tid int, address uint64, data []byte) unix.Errno {
	if len(data) == 0 {
		return 0
	}
	local := []unix.Iovec{{Base: &data[0], Len: uint64(len(data))}}
	remote := []unix.RemoteIovec{{Base: uintptr(address), Len: len(data)}}
	n, err := unix.ProcessVMWritev(tid, local, remote, 0)
	if err == nil && n < len(data) {
		return unix.EFAULT
	}
	return toErrno(err)
}

func toErrno(err error) unix.Errno {
	if errno, ok := err.(unix.Errno); ok {
		return errno
	}
	return 0
}
