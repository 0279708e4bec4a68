package bpf

import (
	"bytes"
	"encoding/binary"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxAttr is the largest attr that bpf(2) takes, in bytes: PAGE_SIZE (bpf_check_uarg_tail_zero, kernel/bpf/syscall.c)
// of the smallest page. What the kernel does not know of it must be zero.
const maxAttr = 4096

// knownAttr is where the fields end that any command of a kernel up to 6.18 has, rounded up.
const knownAttr = 192

// attr is a copy of a caller's union bpf_attr (include/uapi/linux/bpf.h). Fields after its end are zero, as for the
// kernel.
type attr struct {
	data []byte // at least knownAttr bytes
	size int    // as the caller gave it
}

func newAttr(data []byte) attr {
	padded := make([]byte, max(len(data), knownAttr))
	copy(padded, data)
	return attr{padded, len(data)}
}

func (a attr) u32(offset int) uint32 { return binary.NativeEndian.Uint32(a.data[offset:]) }
func (a attr) u64(offset int) uint64 { return binary.NativeEndian.Uint64(a.data[offset:]) }
func (a attr) fd(offset int) int     { return int(int32(a.u32(offset))) }

// zero reports whether all from the offset on is zero.
func (a attr) zero(offset int) bool { return len(bytes.Trim(a.data[offset:], "\x00")) == 0 }

// Offsets of fields that the kernel writes.
const (
	loadLogTrueSize  = 140
	queryAttachFlags = 12
	queryProgCnt     = 24
	queryRevision    = 56
)

// loadAttr is the attr of BPF_PROG_LOAD.
type loadAttr struct {
	progType    uint32
	insnCnt     uint32
	insns       uint64
	license     uint64
	logLevel    uint32
	logSize     uint32
	logBuf      uint64
	kernVersion uint32
	flags       uint32
	name        [unix.BPF_OBJ_NAME_LEN]byte
	attachType  uint32
	logTrueSize uint32
}

// loadFlags are those that only make the verifier stricter or laxer in what alignment it wants.
const loadFlags = unix.BPF_F_STRICT_ALIGNMENT | unix.BPF_F_ANY_ALIGNMENT

// parseLoad reads the attr of a device program, or of one that may be probeInsns. It is not ok if the program is of
// another type, or if the attr has what this plugin gives no program: type information (BTF), maps, a network device, a
// program to extend, a token, a signature.
func parseLoad(a attr) (l loadAttr, ok bool) {
	const (
		progIfindex, progBTF        = 64, 72
		funcInfoCnt, lineInfoCnt    = 88, 104
		attachBTF, attachTo         = 108, 112
		coreReloCnt, fdArray, after = 116, 120, 144
	)
	l = loadAttr{
		progType: a.u32(0), insnCnt: a.u32(4), insns: a.u64(8), license: a.u64(16),
		logLevel: a.u32(24), logSize: a.u32(28), logBuf: a.u64(32),
		kernVersion: a.u32(40), flags: a.u32(44), name: [unix.BPF_OBJ_NAME_LEN]byte(a.data[48:64]),
		attachType: a.u32(68), logTrueSize: a.u32(loadLogTrueSize),
	}
	for _, offset := range []int{progIfindex, progBTF, funcInfoCnt, lineInfoCnt, attachBTF, attachTo, coreReloCnt} {
		if a.u32(offset) != 0 {
			return l, false
		}
	}
	switch l.progType {
	case unix.BPF_PROG_TYPE_CGROUP_DEVICE:
		ok = l.attachType == 0 || l.attachType == unix.BPF_CGROUP_DEVICE
	case unix.BPF_PROG_TYPE_CGROUP_SKB:
		ok = l.attachType == unix.BPF_CGROUP_INET_INGRESS && int(l.insnCnt)*insnSize == len(probeInsns)
	}
	return l, ok && a.u64(fdArray) == 0 && a.zero(after) && l.flags&^loadFlags == 0
}

// attachAttr is the attr of BPF_PROG_ATTACH, BPF_PROG_DETACH or BPF_LINK_CREATE.
type attachAttr struct {
	target     int // of the caller, as all descriptors here
	program    int
	attachType uint32
	flags      uint32
	replaced   int
	link       bool
}

func parseAttach(a attr) (attachAttr, syscall.Errno) {
	at := attachAttr{target: a.fd(0), program: a.fd(4), attachType: a.u32(8), flags: a.u32(12), replaced: a.fd(16)}
	if !a.zero(20) || at.flags&^(unix.BPF_F_ALLOW_MULTI|unix.BPF_F_ALLOW_OVERRIDE|unix.BPF_F_REPLACE) != 0 {
		return at, unix.EINVAL
	}
	return at, 0
}

// replaces reports whether the kernel looks at the program to replace (cgroup_bpf_prog_attach).
func (at attachAttr) replaces() bool {
	return at.flags&unix.BPF_F_REPLACE != 0 && at.flags&unix.BPF_F_ALLOW_MULTI != 0
}

// contradicts reports whether the flags do not go together, which the kernel says after it has looked at the
// descriptors (__cgroup_bpf_attach).
func (at attachAttr) contradicts() bool {
	multi, override := at.flags&unix.BPF_F_ALLOW_MULTI != 0, at.flags&unix.BPF_F_ALLOW_OVERRIDE != 0
	return multi && override || at.flags&unix.BPF_F_REPLACE != 0 && !multi
}

func parseDetach(a attr) (attachAttr, syscall.Errno) {
	at := attachAttr{target: a.fd(0), program: a.fd(4), attachType: a.u32(8)}
	if !a.zero(12) {
		return at, unix.EINVAL
	}
	return at, 0
}

// parseLink gives a link the flag that the kernel gives it.
func parseLink(a attr) (attachAttr, syscall.Errno) {
	at := attachAttr{target: a.fd(4), program: a.fd(0), attachType: a.u32(8), flags: unix.BPF_F_ALLOW_MULTI, link: true}
	if !a.zero(12) {
		return at, unix.EINVAL
	}
	return at, 0
}

// queryAttr is the attr of BPF_PROG_QUERY.
type queryAttr struct {
	target             int
	flags              uint32
	ids                uint64 // where the ids of the programs go
	count              uint32 // room for them
	attachFlags        uint64 // where the flags of each go
	linkIDs, linkFlags uint64 // where those of links would go
	revision           uint64
}

// parseQuery reads a query for device programs. It is not ok if it is for others, or asks for what is not known here.
func parseQuery(a attr) (q queryAttr, ok bool) {
	const after = 64
	q = queryAttr{
		target: a.fd(0), flags: a.u32(8), ids: a.u64(16), count: a.u32(queryProgCnt),
		attachFlags: a.u64(32), linkIDs: a.u64(40), linkFlags: a.u64(48), revision: a.u64(queryRevision),
	}
	return q, a.u32(4) == unix.BPF_CGROUP_DEVICE && a.zero(after)
}
