package sysinfo

import (
	"math"
	"time"
)

// sysinfo is what a caller gets to see, before it takes the form of struct sysinfo.
type sysinfo struct {
	uptime uint64    // seconds
	loads  [3]uint64 // over 1, 5 and 15 minutes, times 1<<loadShift
	memory memory
	swap   swap
	procs  uint64 // threads
}

// loadShift is SI_LOAD_SHIFT, linux/sysinfo.h.
const loadShift = 16

// memory is in bytes.
type memory struct {
	total, free, shared uint64
}

// swap is in bytes.
type swap struct {
	total, free uint64
}

// unlimited is the limit of a cgroup that has none.
const unlimited = math.MaxUint64

// usage is what the memory controller says of a container, in bytes.
type usage struct {
	limit     uint64 // the smallest from the container's cgroup upwards, or unlimited
	used      uint64 // in the cgroup that has this limit
	shared    uint64 // in the same
	swapLimit uint64 // of swap alone, or unlimited
	swapUsed  uint64
}

// limitMemory gives the container's share of the host's memory. A limit that the host's memory does not reach is none.
func limitMemory(host memory, u usage) memory {
	if u.limit >= host.total {
		return host
	}
	return memory{
		total:  u.limit,
		free:   without(u.limit, u.used),
		shared: min(u.shared, u.limit),
	}
}

// limitSwap is like limitMemory for swap.
func limitSwap(host swap, u usage) swap {
	if u.swapLimit >= host.total {
		return host
	}
	return swap{total: u.swapLimit, free: without(u.swapLimit, u.swapUsed)}
}

// without is a - b, and never below zero.
func without(a, b uint64) uint64 { return a - min(a, b) }

// uptime is the time since start, in seconds rounded up as the kernel does (do_sysinfo, kernel/sys.c). Now and start
// are on the host's boot-time clock; a start of 0 is the host's own. Offset is what the caller's time namespace adds
// to that clock: a positive one lengthens the uptime; a negative one puts the namespace's zero after the host's boot,
// and the uptime counts from there if that is later than start.
func uptime(now, start, offset time.Duration) uint64 {
	if offset >= 0 {
		start -= offset
	} else {
		start = max(start, -offset)
	}
	elapsed := max(now-start, 0)
	return uint64((elapsed + time.Second - 1) / time.Second)
}
