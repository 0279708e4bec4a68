package sysinfo

import (
	"bytes"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// host is the machine as the plugin sees it, in the initial time namespace.
type host struct {
	proc    string // where procfs is mounted
	sysinfo func() (sysinfo, error)
	now     func() time.Duration // on the boot-time clock
	cpuTime func() time.Duration // of the calling thread
}

var thisHost = &host{proc: "/proc", sysinfo: hostSysinfo, now: bootTime, cpuTime: cpuTime}

// hostSysinfo is what the kernel says to the plugin itself.
func hostSysinfo() (sysinfo, error) {
	var raw unix.Sysinfo_t
	if err := unix.Sysinfo(&raw); err != nil {
		return sysinfo{}, fmt.Errorf("sysinfo: %w", err)
	}
	unit := uint64(raw.Unit)
	return sysinfo{
		uptime: uint64(raw.Uptime),
		loads:  [3]uint64{uint64(raw.Loads[0]), uint64(raw.Loads[1]), uint64(raw.Loads[2])},
		memory: memory{
			total:  uint64(raw.Totalram) * unit,
			free:   uint64(raw.Freeram) * unit,
			shared: uint64(raw.Sharedram) * unit,
		},
		swap:  swap{total: uint64(raw.Totalswap) * unit, free: uint64(raw.Freeswap) * unit},
		procs: uint64(raw.Procs),
	}, nil
}

func bootTime() time.Duration { return readClock(unix.CLOCK_BOOTTIME) }

func cpuTime() time.Duration { return readClock(unix.CLOCK_THREAD_CPUTIME_ID) }

func readClock(id int32) time.Duration {
	var ts unix.Timespec
	// It can only fail for a bad clock or pointer.
	unix.ClockGettime(id, &ts)
	return time.Duration(ts.Nano())
}

// cost runs work, which starts no goroutines, and says how much processor time it took: unlike the time that passed,
// that does not depend on what else the host does.
func (h *host) cost(work func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begin := h.cpuTime()
	work()
	return h.cpuTime() - begin
}

// startTime is when a process started, on the boot-time clock.
type startTime struct {
	at    time.Duration
	known bool
}

// clockTick is the unit of times in /proc/PID/stat: USER_HZ is 100 on every architecture that is supported.
const clockTick = time.Second / 100

// startOf says when the process pid started.
func (h *host) startOf(pid int) startTime {
	stat, err := h.stat(pid)
	if err != nil {
		return startTime{}
	}
	return startTime{at: time.Duration(stat.startTicks) * clockTick, known: true}
}

// stat reads /proc/PID/stat of a process or thread.
func (h *host) stat(tid int) (processStat, error) {
	text, err := h.procFile(tid, "stat").read(make([]byte, 1<<10))
	if err != nil {
		return processStat{}, err
	}
	return parseStat(text)
}

func (h *host) procFile(tid int, name string) *file {
	return newFile(h.proc+"/"+strconv.Itoa(tid), name)
}

// processStat is what the plugin needs of /proc/PID/stat (proc_pid_stat(5)).
type processStat struct {
	state      byte
	parent     int
	startTicks uint64 // since boot, in the reader's time namespace
}

// parseStat counts fields after the command, whose name is the process's own choice: it may hold blanks and
// parentheses.
func parseStat(text []byte) (processStat, error) {
	end := bytes.LastIndexByte(text, ')')
	fields := bytes.Fields(text[end+1:])
	if end < 0 || len(fields) < 20 || len(fields[0]) != 1 {
		return processStat{}, fmt.Errorf("%q is no process's stat", string(text))
	}
	parent, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return processStat{}, fmt.Errorf("parent of a process: %w", err)
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 39) // what a time.Duration holds
	if err != nil {
		return processStat{}, fmt.Errorf("start time of a process: %w", err)
	}
	return processStat{state: fields[0][0], parent: parent, startTicks: start}, nil
}

// maxOffset is the largest offset in seconds that the kernel takes (proc_timens_set_offset, kernel/time/namespace.c).
const maxOffset = math.MaxInt64 / int64(time.Second) / 2

// parseBootOffset reads timens_offsets (time_namespaces(7)): lines of CLOCK SECONDS NANOSECONDS.
func parseBootOffset(text string) time.Duration {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != "boottime" {
			continue
		}
		seconds, err1 := strconv.ParseInt(fields[1], 10, 64)
		nanos, err2 := strconv.ParseInt(fields[2], 10, 32)
		if err1 != nil || err2 != nil || seconds > maxOffset || seconds < -maxOffset {
			return 0
		}
		return time.Duration(seconds)*time.Second + time.Duration(nanos)
	}
	return 0
}
