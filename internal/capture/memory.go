package capture

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/pause"
	"golang.org/x/sys/unix"
)

// Memory is a handle on the memory that a thread had when it was opened, which stays that memory when the thread
// executes another program (proc_pid_mem(5): it holds the struct mm).
type Memory struct {
	tid       int
	mem, maps int
}

// OpenMemory opens the memory of the thread tid. Who writes makes sure, after it, that the thread was the one that is
// meant. The errno is ESRCH if there is none.
func OpenMemory(tid int) (Memory, unix.Errno) {
	mem, errno := openFile(procPath(tid, "mem"), unix.O_RDWR)
	if errno != 0 {
		return Memory{}, gone(errno)
	}
	maps, errno := openFile(procPath(tid, "maps"), unix.O_RDONLY)
	if errno != 0 {
		unix.Close(mem)
		return Memory{}, gone(errno)
	}
	return Memory{tid, mem, maps}, 0
}

// write is a Write of plugin.proto.
type write interface {
	GetAddress() uint64
	GetData() []byte
}

// WriteBack writes to the memory that the thread tid had when it was opened, if the caller is valid then. All of it is
// looked at first: nothing is written if a part of it cannot be. What may hang in the kernel comes before the question
// whether the caller is valid, so that nothing is written late for a call that somebody else has answered. The errno is
// 0, EFAULT, or ESRCH if the caller is gone.
func WriteBack[W write](tid int, writes []W, caller interface{ Valid() bool }) unix.Errno {
	if len(writes) == 0 {
		return 0
	}
	memory, errno := OpenMemory(tid)
	if errno != 0 {
		return errno
	}
	defer memory.Close()
	for _, w := range writes {
		if errno := memory.prepare(w.GetAddress(), uint64(len(w.GetData()))); errno != 0 {
			return errno
		}
	}
	pause.At(pause.Captured)
	if !caller.Valid() {
		return unix.ESRCH
	}
	pause.At(pause.Write)
	for _, w := range writes {
		if errno := memory.write(w.GetAddress(), w.GetData()); errno != 0 {
			return errno
		}
	}
	return 0
}

func gone(errno unix.Errno) unix.Errno {
	if errno == unix.ENOENT {
		return unix.ESRCH
	}
	return errno
}

// Close closes the handle.
func (m Memory) Close() { linux.CloseAll(m.mem, m.maps) }

// prepare looks whether the memory lets its owner write so many bytes at the address: the file itself ignores page
// protection (FOLL_FORCE, mem_rw, fs/proc/base.c). The errno is 0 or EFAULT. The owner may change the protection later:
// what is then written in spite of it is a private page of its own, as a shared one cannot be forced (check_vma_flags,
// mm/gup.c).
func (m Memory) prepare(address, length uint64) unix.Errno {
	end := address + length
	if end < address || address > 1<<63-1 {
		return unix.EFAULT
	}
	writable, ofFile := m.look(address, end)
	if !writable {
		return unix.EFAULT
	}
	if ofFile {
		m.touch(address, end)
	}
	return 0
}

// write copies data to an address that was prepared. The errno is 0 or EFAULT.
func (m Memory) write(address uint64, data []byte) unix.Errno {
	if len(data) == 0 {
		return 0
	}
	if n, err := unix.Pwrite(m.mem, data, int64(address)); err != nil || n < len(data) {
		return unix.EFAULT
	}
	return 0
}

// touch has the pages of a file read. A filesystem that does not answer holds up whoever asks for a page. It holds up
// a writer of /proc/TID/mem with the lock on all mappings of the process, so that its threads would not go on either
// when the call is given up; the reader here has no lock then.
func (m Memory) touch(address, end uint64) {
	var byte [1]byte
	for at := address; at < end; at = at&^(pageSize-1) + pageSize {
		linux.ReadMemory(m.tid, at, byte[:])
	}
}

var pageSize = uint64(os.Getpagesize())

// look reports whether all of the addresses are in mappings that their owner may write, and whether one is of a file.
func (m Memory) look(address, end uint64) (writable, ofFile bool) {
	for address < end {
		next, file, err := linux.WritableMapping(m.maps, address)
		if err == unix.ENOTTY { // before kernel 6.11
			return m.isListedWritable(address, end), true
		}
		if err != nil {
			return false, false
		}
		address, ofFile = next, ofFile || file
	}
	return true, ofFile
}

// isListedWritable reports the same as look by the text of /proc/TID/maps (proc_pid_maps(5)): lines of START-END
// PERMISSIONS, in the order of addresses.
func (m Memory) isListedWritable(address, end uint64) bool {
	maps, err := unix.FcntlInt(uintptr(m.maps), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return false
	}
	file := os.NewFile(uintptr(maps), "maps")
	defer file.Close()
	if _, err := file.Seek(0, 0); err != nil {
		return false
	}
	for lines := bufio.NewScanner(file); address < end && lines.Scan(); {
		first, last, writable, ok := parseMapping(lines.Text())
		switch {
		case !ok:
			return false
		case last <= address:
			continue
		case first > address || !writable:
			return false
		}
		address = last
	}
	return address >= end
}

func parseMapping(line string) (first, last uint64, writable, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 2 || len(fields[1]) < 2 {
		return 0, 0, false, false
	}
	from, to, _ := strings.Cut(fields[0], "-")
	first, err := strconv.ParseUint(from, 16, 64)
	if err != nil {
		return 0, 0, false, false
	}
	last, err = strconv.ParseUint(to, 16, 64)
	return first, last, fields[1][1] == 'w', err == nil
}
