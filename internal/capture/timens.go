package capture

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxAncestors bounds the search for a process that shows the offsets of a time namespace.
const maxAncestors = 32

// readTimeOffsets reads the offsets of the time namespace that the thread is in; none if that is this process's, which
// takes less than half of the time to see.
//
// timens_offsets shows those of the namespace that the thread's children are to be in (proc_timens_show_offsets,
// kernel/time/namespace.c). Where the thread has unshared that, they are looked for at its ancestors: its parent has
// made the namespace for it, or was born in it too. ENODATA: none of them shows them.
func (s *Set) readTimeOffsets(tid int, h *Handle) unix.Errno {
	namespace, err := StatNamespace(procPath(tid, "ns/time"))
	if err != nil {
		return s.goneOr(tid, toErrno(err))
	}
	if own, err := ownTimeNamespace(); err == nil && namespace == own {
		return 0
	}
	for at, generation := tid, 0; at > 0 && generation < maxAncestors; at, generation = parentOf(at), generation+1 {
		errno := s.read(at, "timens_offsets", h, 256)
		shown, err := StatNamespace(procPath(at, "ns/time_for_children"))
		if errno == 0 && err == nil && shown == namespace {
			return 0
		}
	}
	h.Text = h.Text[:0]
	if !exists(tid) {
		return unix.ESRCH
	}
	return unix.ENODATA
}

// parentOf is the parent of the thread's process; 0: it has none, or is gone.
func parentOf(tid int) int {
	stat, errno := readStart(nil, procPath(tid, "stat"), statSize)
	if errno != 0 {
		return 0
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(string(fields[1]))
	return parent
}
