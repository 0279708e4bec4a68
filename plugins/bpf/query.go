package bpf

import (
	"encoding/binary"
	"os"
	"unsafe"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// query answers BPF_PROG_QUERY. See Handle for why Next is safe.
func (c call) query() (sdk.Response, error) {
	q, ok := parseQuery(c.attr)
	if !ok {
		return sdk.Next().Because(notOfDevices, ""), nil
	}
	if q.flags&^unix.BPF_F_QUERY_EFFECTIVE != 0 { // bpf_prog_query, before it looks at the descriptor
		return answer(wrong(unix.EINVAL), nil)
	}
	place, refused, err := c.place(q.target)
	if refused != nil || err != nil {
		return answer(refused, err)
	}
	defer place.close()
	count := min(q.count, maxPrograms)
	ids, flags := make([]uint32, count+1), make([]uint32, count+1)
	// The kernel fills link_ids and link_attach_flags for other types alone, and refuses them before 6.6.
	links := make([]uint32, count+1)
	a := progQuery{
		target: uint32(place.dir), attachType: unix.BPF_CGROUP_DEVICE, flags: q.flags, count: count, revision: q.revision,
		ids: wanted(q.ids, ids), progFlags: wanted(q.attachFlags, flags),
		linkIDs: wanted(q.linkIDs, links), linkFlags: wanted(q.linkFlags, links),
	}
	_, errno := bpf(cmdQuery, &a)
	response, err := answer(kernelSays(errno), nil)
	if errno != 0 && errno != unix.ENOSPC {
		return response, err
	}
	return c.fillQuery(response, q, a, ids, flags), nil
}

// wanted is room for what the caller has room for at an address, if that is not 0.
func wanted(address uint64, room []uint32) unsafe.Pointer {
	if address == 0 {
		return nil
	}
	return unsafe.Pointer(&room[0])
}

// fillQuery writes what the kernel wrote: with ENOSPC, as many programs as there was room for.
func (c call) fillQuery(response sdk.Response, q queryAttr, a progQuery, ids, flags []uint32) sdk.Response {
	at := c.req.Pointer(1)
	response = response.
		Write(at+queryAttachFlags, binary.NativeEndian.AppendUint32(nil, a.attachFlags)).
		Write(at+queryProgCnt, binary.NativeEndian.AppendUint32(nil, a.count))
	if c.attr.size >= queryRevision+8 && a.revision != q.revision {
		response = response.Write(at+queryRevision, binary.NativeEndian.AppendUint64(nil, a.revision))
	}
	n := min(a.count, q.count, maxPrograms)
	if n == 0 || q.ids == 0 {
		return response
	}
	response = response.Write(q.ids, words(ids[:n]))
	if q.attachFlags != 0 {
		response = response.Write(q.attachFlags, words(flags[:n]))
	}
	return response
}

// words are the bytes of 32-bit numbers.
func words(numbers []uint32) []byte {
	var text []byte
	for _, n := range numbers {
		text = binary.NativeEndian.AppendUint32(text, n)
	}
	return text
}

// getByID answers BPF_PROG_GET_FD_BY_ID for programs that were loaded for the container: runc and crun find them by a
// query, to replace them. See Handle for why Next is safe.
func (c call) getByID() (sdk.Response, error) {
	const progID, after = 0, 4
	id := c.attr.u32(progID)
	if !c.attr.zero(after) || !c.programs.has(id) {
		return sdk.Next().Because(foreignProgram, ""), nil
	}
	fd, errno := programByID(id)
	if errno != 0 {
		return answer(kernelSays(errno), nil)
	}
	return sdk.AddFD(os.NewFile(uintptr(fd), "program"), true), nil
}
