package strace

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// argument shows the argument i of a call, whose register it cuts to the argument's width, as the kernel does.
type argument func(c Call, i int) string

// show shows a call's arguments, one after the other.
func show(arguments ...argument) func(Call) []string {
	return func(c Call) []string {
		var shown []string
		for i, a := range arguments {
			shown = append(shown, a(c, i))
		}
		return shown
	}
}

// memory is what was copied where the argument i points to; not ok: nothing was to be.
func (c Call) memory(i int) (m Memory, ok bool) {
	for _, m := range c.Memory {
		if m.Arg == i {
			return m, true
		}
	}
	return Memory{}, false
}

// copied is what was copied there; not ok: nothing was.
func (c Call) copied(i int) (data []byte, ok bool) {
	m, ok := c.memory(i)
	return m.Data, ok && m.Errno == 0 && c.Args[i] != 0
}

func hex(value uint64) string {
	if value == 0 {
		return "0"
	}
	return fmt.Sprintf("%#x", value)
}

// pointer shows where an argument points to, and why nothing was copied there, if something was to be.
func pointer(c Call, i int) string {
	m, _ := c.memory(i)
	switch {
	case c.Args[i] == 0:
		return "NULL"
	case m.Errno != 0:
		return fmt.Sprintf("%#x /* %s */", c.Args[i], unix.ErrnoName(m.Errno))
	default:
		return fmt.Sprintf("%#x", c.Args[i])
	}
}

func str(c Call, i int) string { return bounded(c, i, maxString) }

func path(c Call, i int) string { return bounded(c, i, maxPath) }

func bounded(c Call, i, limit int) string {
	if data, ok := c.copied(i); ok {
		return quote(data, limit)
	}
	return pointer(c, i)
}

func decimal(c Call, i int) string { return fmt.Sprint(int32(c.Args[i])) }

func size(c Call, i int) string { return fmt.Sprint(c.Args[i]) }

func size32(c Call, i int) string { return fmt.Sprint(uint32(c.Args[i])) }

func dirfd(c Call, i int) string {
	if int32(c.Args[i]) == unix.AT_FDCWD {
		return "AT_FDCWD"
	}
	return decimal(c, i)
}

// device is a device number of 32 bits (new_decode_dev, include/linux/kdev_t.h).
func device(c Call, i int) string {
	dev := uint64(uint32(c.Args[i]))
	return fmt.Sprintf("makedev(%d, %d)", unix.Major(dev), unix.Minor(dev))
}

var fileTypes = []named{
	{unix.S_IFREG, "S_IFREG"}, {unix.S_IFDIR, "S_IFDIR"}, {unix.S_IFCHR, "S_IFCHR"}, {unix.S_IFBLK, "S_IFBLK"},
	{unix.S_IFIFO, "S_IFIFO"}, {unix.S_IFSOCK, "S_IFSOCK"}, {unix.S_IFLNK, "S_IFLNK"},
}

var modeBits = []named{{unix.S_ISUID, "S_ISUID"}, {unix.S_ISGID, "S_ISGID"}, {unix.S_ISVTX, "S_ISVTX"}}

// mode is a umode_t, of 16 bits.
func mode(c Call, i int) string {
	m := uint64(uint16(c.Args[i]))
	kind := m & unix.S_IFMT
	at := slices.IndexFunc(fileTypes, func(n named) bool { return n.value == kind })
	if at < 0 {
		return fmt.Sprintf("0%03o", m)
	}
	words := []string{fileTypes[at].name}
	for _, bit := range modeBits {
		if m&bit.value != 0 {
			words = append(words, bit.name)
		}
	}
	return strings.Join(append(words, fmt.Sprintf("0%03o", m&0o777)), "|")
}

// named is a value with its name.
type named struct {
	value uint64
	name  string
}

// flags shows a register as the bits that are named; 32 bits of it, or all.
func flags(width int, names []named) argument {
	return func(c Call, i int) string {
		value := c.Args[i]
		if width == 32 {
			value = uint64(uint32(value))
		}
		return bits(value, names)
	}
}

// bits is value as the names of its bits, with what has no name as a number.
func bits(value uint64, names []named) string {
	var words []string
	for _, n := range names {
		if value&n.value == n.value {
			words = append(words, n.name)
			value &^= n.value
		}
	}
	if value != 0 || len(words) == 0 {
		words = append(words, hex(value))
	}
	return strings.Join(words, "|")
}

// one shows the 32 bits of a register as one of the names, which begin with 0.
func one(names []string) argument {
	return func(c Call, i int) string { return nth(names, uint32(c.Args[i])) }
}

func nth(names []string, n uint32) string {
	if uint64(n) < uint64(len(names)) && names[n] != "" {
		return names[n]
	}
	return hex(uint64(n))
}
