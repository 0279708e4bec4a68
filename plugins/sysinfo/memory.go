package sysinfo

import (
	"bytes"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// memoryFiles names what the memory controller calls its files, and a key of its memory.stat. All count a cgroup
// with those below it.
type memoryFiles struct {
	limit, used         string
	swapLimit, swapUsed string
	swapHasMemory       bool // swapLimit and swapUsed count memory and swap together
	shared              string
}

var (
	// Documentation/admin-guide/cgroup-v1/memory.rst
	memoryV1 = memoryFiles{
		limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes",
		swapLimit: "memory.memsw.limit_in_bytes", swapUsed: "memory.memsw.usage_in_bytes", swapHasMemory: true,
		shared: "total_shmem",
	}
	// Documentation/admin-guide/cgroup-v2.rst
	memoryV2 = memoryFiles{
		limit: "memory.max", used: "memory.current",
		swapLimit: "memory.swap.max", swapUsed: "memory.swap.current",
		shared: "shmem",
	}
)

// memoryCgroup is the container's memory cgroup and all above it.
type memoryCgroup struct {
	names  memoryFiles
	levels []memoryLevel // the container's own first
}

// memoryLevel is one cgroup's files.
type memoryLevel struct {
	limit, used, swapLimit, swapUsed, stat file
}

// openMemory finds the container's memory cgroup; nil if it cannot be seen.
func openMemory(h *host, container sdk.Container, folders cgroupFolders) *memoryCgroup {
	hierarchy := container.CgroupHierarchy("memory")
	own, ok := folders[hierarchy]
	if !ok {
		return nil
	}
	c := &memoryCgroup{names: memoryV1}
	if hierarchy == "" {
		c.names = memoryV2
	}
	levels := own.Upwards()
	if top := len(levels) - 1; isRoot(levels[top], c.names) {
		levels = levels[:top]
	}
	c.levels = make([]memoryLevel, len(levels))
	for i, folder := range levels {
		c.levels[i] = memoryLevel{
			limit:     makeFile(folder, c.names.limit),
			used:      makeFile(folder, c.names.used),
			swapLimit: makeFile(folder, c.names.swapLimit),
			swapUsed:  makeFile(folder, c.names.swapUsed),
			stat:      makeFile(folder, "memory.stat"),
		}
	}
	if info, err := h.sysinfo(); err == nil {
		c.keep(info)
	}
	return c
}

// isRoot reports whether the folder is the root of its hierarchy, whose memory cannot be limited: version 1 has a file
// there alone (cgroup.sane_behavior, kernel/cgroup/cgroup-v1.c), version 2 lacks some there.
func isRoot(folder string, names memoryFiles) bool {
	has := func(name string) bool { return unix.Access(folder+"/"+name, unix.F_OK) == nil }
	return has("cgroup.sane_behavior") || !has(names.limit) && !has("cgroup.type")
}

// keep keeps open what each read needs as long as the smallest limits stay where they are now.
func (c *memoryCgroup) keep(host sysinfo) {
	for i := range c.levels {
		c.levels[i].limit.keep()
	}
	if limit, at := c.smallest(limitOf); limit < host.memory.total {
		at.used.keep()
		at.stat.keep()
	}
	if host.swap.total == 0 {
		return
	}
	for i := range c.levels {
		c.levels[i].swapLimit.keep()
	}
	if _, at := c.smallest(swapLimitOf); at != nil {
		at.swapUsed.keep()
	}
}

func (c *memoryCgroup) close() {
	if c == nil {
		return
	}
	for i := range c.levels {
		level := &c.levels[i]
		for _, f := range []*file{&level.limit, &level.used, &level.swapLimit, &level.swapUsed, &level.stat} {
			f.close()
		}
	}
}

// read says what the container may use and uses. A limit that the host's amounts, in bytes, do not reach is unlimited.
func (c *memoryCgroup) read(hostMemory, hostSwap uint64) usage {
	u := usage{limit: unlimited, swapLimit: unlimited}
	if c == nil {
		return u
	}
	limit, level := c.smallest(limitOf)
	if limit < hostMemory {
		c.readMemory(&u, limit, level)
	}
	if hostSwap > 0 {
		c.readSwap(&u, min(limit, hostMemory))
	}
	return u
}

func limitOf(l *memoryLevel) *file     { return &l.limit }
func swapLimitOf(l *memoryLevel) *file { return &l.swapLimit }

// smallest gives the smallest limit of a kind and its level: of equal ones the topmost, since what is used there
// includes what is used below. Files that are not there have no limit: the top of version 2 has none, a cgroup may be
// without the controller, or gone. The level is nil if no limit could be read.
func (c *memoryCgroup) smallest(kind func(*memoryLevel) *file) (limit uint64, at *memoryLevel) {
	limit = unlimited
	for i := range c.levels {
		level := &c.levels[i]
		if n, err := kind(level).readAmount(); err == nil && n <= limit {
			limit, at = n, level
		}
	}
	return limit, at
}

// readMemory leaves u without a limit if the level is gone by now.
func (c *memoryCgroup) readMemory(u *usage, limit uint64, level *memoryLevel) {
	used, err := level.used.readAmount()
	if err != nil {
		return
	}
	u.limit, u.used = limit, used
	if text, err := level.stat.read(make([]byte, 8<<10)); err == nil {
		u.shared = parseMemoryStat(text, c.names.shared)
	}
}

// readSwap leaves u without a limit of swap if there is none or its level is gone. MemoryLimit is what is left of
// memory and swap together for memory.
func (c *memoryCgroup) readSwap(u *usage, memoryLimit uint64) {
	limit, level := c.smallest(swapLimitOf)
	if limit == unlimited {
		return
	}
	used, err := level.swapUsed.readAmount()
	if err != nil {
		return
	}
	if c.names.swapHasMemory {
		memoryUsed, err := level.used.readAmount()
		if err != nil {
			return
		}
		limit, used = without(limit, memoryLimit), without(used, memoryUsed)
	}
	u.swapLimit, u.swapUsed = limit, used
}

// parseMemoryStat finds a key in memory.stat, whose lines are KEY BYTES. One that is not there is 0.
func parseMemoryStat(text []byte, wanted string) uint64 {
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		if key, value, _ := bytes.Cut(line, []byte(" ")); string(key) == wanted {
			return parseBytes(value)
		}
	}
	return 0
}

// parseBytes is parseAmount for statistics, which are never "max".
func parseBytes(text []byte) uint64 {
	n, err := parseAmount(text)
	if err != nil || n == unlimited {
		return 0
	}
	return n
}
