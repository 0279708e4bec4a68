package demo

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/intercede/intercede/core/bench/caller"
	"golang.org/x/sys/unix"
)

// memoryLimit is that of both containers, in bytes.
const memoryLimit = 64 << 20

// example is a call that comes out differently with a plugin.
type example struct {
	name          string // as a person writes it
	plugin        string // that takes it
	without, with string // what is to come of it, as the call's Show says it
	call          caller.Call
}

const (
	refused = "EPERM (Operation not permitted)"
	made    = "made, writable: crw-r--r-- 1, 3" // mode 0666 less the umask 022
)

// examples are all that can be shown. Names are kept short, for the table.
func examples() []example {
	return []example{
		// In the root filesystem, the node itself is made.
		{"mknod /tmp/null c 1 3", "mknod", refused, made, mknod("/tmp/null")},
		// The container's own tmpfs, where no node could be opened: the host's is bind-mounted.
		{"mknod /dev/demo c 1 3", "mknod", refused, made, mknod("/dev/demo")},
		{"sysinfo: total memory", "sysinfo", "host: " + binarySize(totalMemory()), "limit: " + binarySize(memoryLimit), sysinfo()},
	}
}

// mknod makes a node of null(4).
func mknod(path string) caller.Call {
	call := caller.Mknod(path, 1, 3)
	call.Show = func() string {
		if errno := call.Make(); errno != 0 {
			return errnoText(errno)
		}
		text := nodeText(path)
		if err := call.Undo(); err != nil {
			return err.Error()
		}
		return text
	}
	return call
}

// nodeText says what a node is, and whether it can be used.
func nodeText(path string) string {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return "made, but not to be opened: " + err.Error()
	}
	defer file.Close()
	if _, err := file.WriteString("discarded"); err != nil {
		return "made, but not writable: " + err.Error()
	}
	info, err := file.Stat()
	if err != nil {
		return err.Error()
	}
	if info.Mode().Type() != fs.ModeDevice|fs.ModeCharDevice {
		return "made, but no character device: " + info.Mode().String()
	}
	device := info.Sys().(*syscall.Stat_t).Rdev
	return fmt.Sprintf("made, writable: c%s %d, %d", info.Mode().Perm().String()[1:], unix.Major(device), unix.Minor(device))
}

// sysinfo shows whose memory a program sees.
func sysinfo() caller.Call {
	call := caller.Sysinfo()
	call.Show = func() string {
		total := totalMemory()
		if total == memoryLimit {
			return "limit: " + binarySize(total)
		}
		return "host: " + binarySize(total)
	}
	return call
}

// totalMemory is what sysinfo(2) says to this process, in bytes; 0 if it fails.
func totalMemory() uint64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}
