package sysinfo

import (
	"encoding/binary"
	"math"
	"os"

	"github.com/intercede/intercede/sdk"
)

// Sizes of struct sysinfo (linux/sysinfo.h): its longs have 64 bits in the 64-bit ABIs and in x32, 32 in i386 and arm.
const (
	size64 = 112
	size32 = 64
)

// encode gives struct sysinfo as a caller of the architecture expects it. The high memory of 32-bit kernels is always
// 0. All of these architectures are little-endian.
func (s sysinfo) encode(arch sdk.Arch) []byte {
	if arch.Is32Bit() {
		return s.encode32(uint64(os.Getpagesize()))
	}
	return s.encode64()
}

func (s sysinfo) encode64() []byte {
	b := make([]byte, 0, size64)
	for _, v := range s.longs(0) {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.LittleEndian.AppendUint16(b, saturate[uint16](s.procs, math.MaxUint16))
	b = append(b, make([]byte, 6+8+8)...) // padding, totalhigh, freehigh
	b = binary.LittleEndian.AppendUint32(b, 1)
	return b[:size64]
}

// encode32 counts memory in pages where bytes do not fit, as the kernel does (COMPAT_SYSCALL_DEFINE1(sysinfo),
// kernel/sys.c).
func (s sysinfo) encode32(pageSize uint64) []byte {
	unit := uint64(1)
	shift := 0
	if max(s.memory.total, s.swap.total) > math.MaxUint32 {
		for ; unit < pageSize; unit <<= 1 {
			shift++
		}
	}
	b := make([]byte, 0, size32)
	for _, v := range s.longs(shift) {
		b = binary.LittleEndian.AppendUint32(b, saturate[uint32](v, math.MaxUint32))
	}
	b = binary.LittleEndian.AppendUint16(b, saturate[uint16](s.procs, math.MaxUint16))
	b = append(b, make([]byte, 2+4+4)...) // padding, totalhigh, freehigh
	b = binary.LittleEndian.AppendUint32(b, uint32(unit))
	return b[:size32]
}

// bufferram is how much memory the buffers of block devices have, which no cgroup counts. File cache is not part of it:
// programs add that from the line Cached of /proc/meminfo (busybox free), where it would count twice.
const bufferram = 0

// longs are the ten fields that struct sysinfo begins with; amounts of memory are shifted right.
func (s sysinfo) longs(shift int) [10]uint64 {
	m, w := s.memory, s.swap
	return [10]uint64{
		s.uptime, s.loads[0], s.loads[1], s.loads[2],
		m.total >> shift, m.free >> shift, m.shared >> shift, bufferram, w.total >> shift, w.free >> shift,
	}
}

// saturate converts v; what does not fit becomes the largest value that does.
func saturate[T uint16 | uint32](v, largest uint64) T { return T(min(v, largest)) }
