package audit

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// maxText bounds what is shown of a caller's string or memory, in bytes.
const maxText = 128

// arguments shows the call's arguments as its plugin declared them: path="/dev/null" mode=S_IFCHR|0666. The caller's
// text is quoted and bounded. Without a declaration it shows all six registers.
func arguments(r Record) string {
	if r.Declared == nil {
		return fmt.Sprintf("%#x", r.Notification.Args)
	}
	var shown []string
	for i, a := range r.Declared.GetArguments() {
		shown = append(shown, a.GetName()+"="+argument(r, i, a.GetFormat()))
	}
	return strings.Join(shown, " ")
}

func argument(r Record, i int, format wire.Argument_Format) string {
	for j, read := range r.Declared.GetReads() {
		if int(read.GetArg()) == i && j < len(r.Reads) {
			return memory(r.Notification.Args[i], read, r.Reads[j])
		}
	}
	return register(r.Notification.Args[i], format)
}

// memory shows what was read, or the pointer and why reading failed.
func memory(pointer uint64, read *wire.Read, copied *wire.Memory) string {
	if errno := copied.GetErrno(); errno != 0 {
		return fmt.Sprintf("%#x(%s)", pointer, errnoName(unix.Errno(errno)))
	}
	if read.GetString_() == nil {
		return fmt.Sprintf("%#x[%d]", pointer, len(copied.GetData()))
	}
	if text := copied.GetData(); len(text) > maxText {
		return strconv.QuoteToASCII(string(text[:maxText])) + "..."
	}
	return strconv.QuoteToASCII(string(copied.GetData()))
}

func register(value uint64, format wire.Argument_Format) string {
	switch format {
	case wire.Argument_FORMAT_INT:
		return strconv.Itoa(int(int32(value)))
	case wire.Argument_FORMAT_UINT:
		return strconv.FormatUint(value, 10)
	case wire.Argument_FORMAT_FD:
		if int32(value) == unix.AT_FDCWD {
			return "AT_FDCWD"
		}
		return strconv.Itoa(int(int32(value)))
	case wire.Argument_FORMAT_MODE:
		return mode(uint32(uint16(value)))
	case wire.Argument_FORMAT_DEV:
		dev := uint64(uint32(value))
		return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))
	default:
		return fmt.Sprintf("%#x", value)
	}
}

var fileTypes = map[uint32]string{
	unix.S_IFREG: "S_IFREG", unix.S_IFDIR: "S_IFDIR", unix.S_IFCHR: "S_IFCHR", unix.S_IFBLK: "S_IFBLK",
	unix.S_IFIFO: "S_IFIFO", unix.S_IFSOCK: "S_IFSOCK", unix.S_IFLNK: "S_IFLNK",
}

func mode(value uint32) string {
	kind, known := fileTypes[value&unix.S_IFMT]
	if !known {
		return fmt.Sprintf("%#o", value)
	}
	return fmt.Sprintf("%s|%#o", kind, value&^unix.S_IFMT)
}

// arches are the names that the kernel's own log uses.
var arches = map[uint32]string{
	unix.AUDIT_ARCH_X86_64: "x86_64", unix.AUDIT_ARCH_I386: "i386",
	unix.AUDIT_ARCH_AARCH64: "aarch64", unix.AUDIT_ARCH_ARM: "arm",
}

// ArchName names an AUDIT_ARCH_*, one without a name by its number.
func ArchName(arch uint32) string {
	if name, known := arches[arch]; known {
		return name
	}
	return fmt.Sprintf("%#x", arch)
}

// errnoName names an errno. A plugin may have chosen it, so it may be a number without a name.
func errnoName(errno unix.Errno) string {
	if name := unix.ErrnoName(errno); name != "" {
		return name
	}
	return strconv.Itoa(int(errno))
}
