package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/intercede/intercede/cmd/intercede-bench/caller"
	"github.com/intercede/intercede/cmd/intercede-bench/disk"
	"golang.org/x/sys/unix"
)

// memoryLimit is that of both containers, in bytes.
const memoryLimit = 64 << 20

// example is a call that comes out differently with a plugin.
type example struct {
	name          string // as a person writes it
	plugin        string // that takes it
	without, with string // what should come of it, as the call's Show says it
	call          func() (caller.Call, error)
}

const (
	refused = "EPERM"
	made    = "made, writable: crw-r--r-- 1, 3" // mode 0666 less the umask 022
	mounted = "mounted, root's: nosuid, nodev"
)

// examples are all that can be shown. Names are kept short, for the table.
func examples(d disk.Disk) []example {
	return []example{
		// In the root filesystem, the node itself is made.
		{"mknod /tmp/null c 1 3", "mknod", refused, made, always(mknod("/tmp/null"))},
		// The container's own tmpfs, where no node could be opened: the host's is bind-mounted.
		{"mknod /dev/demo c 1 3", "mknod", refused, made, always(mknod("/dev/demo"))},
		{"sysinfo: total memory", "sysinfo", "host: " + binarySize(totalMemory()), "limit: " + binarySize(memoryLimit), always(sysinfo())},
		{"setfattr trusted.overlay.opaque", "setxattr", refused, "set", setxattr},
		{"chrt -f -p 10 TID", "sched", refused, "SCHED_FIFO", always(setscheduler())},
		{"bpf: device program", "bpf", refused, "attached: /dev/null is refused", always(deviceProgram())},
		{"mount -t ext4 /dev/disk", "mount", refused, mounted, func() (caller.Call, error) { return mountDisk(d) }},
		{"mount -r -t ext2 IMAGE (fuse2fs)", "mount", refused, mounted, func() (caller.Call, error) { return mountImage(d) }},
	}
}

func always(call caller.Call) func() (caller.Call, error) {
	return func() (caller.Call, error) { return call, nil }
}

// mknod makes a node of null(4).
func mknod(path string) caller.Call {
	call := caller.Mknod(path, 1, 3)
	return showing(call, func() string { return nodeText(path) })
}

// showing has the call shown by what is seen after it.
func showing(call caller.Call, seen func() string) caller.Call {
	call.Show = func() string {
		if errno := call.Make(); errno != 0 {
			return unix.ErrnoName(errno)
		}
		text := seen()
		if call.Undo == nil {
			return text
		}
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
	return showing(caller.Sysinfo(), func() string {
		total := totalMemory()
		if total == memoryLimit {
			return "limit: " + binarySize(total)
		}
		return "host: " + binarySize(total)
	})
}

// totalMemory is what sysinfo(2) says to this process, in bytes; 0 if it fails.
func totalMemory() uint64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}

func setxattr() (caller.Call, error) {
	call, err := caller.Setxattr("/tmp/opaque", "trusted.overlay.opaque", 'y')
	return showing(call, func() string { return "set" }), err
}

func setscheduler() caller.Call {
	call, thread := caller.Setscheduler(10)
	return showing(call, func() string {
		attr, err := unix.SchedGetAttr(thread, 0)
		if err != nil || attr.Policy != unix.SCHED_FIFO || attr.Priority != 10 {
			return fmt.Sprintf("policy %+v, %v", attr, err)
		}
		return "SCHED_FIFO"
	})
}

// mountDisk mounts the disk by its device node, which the plugin mknod lets the container make.
func mountDisk(d disk.Disk) (caller.Call, error) {
	const node, dir = "/dev/disk", "/tmp/disk"
	// Where it cannot be made the mount is refused before the kernel looks for it.
	err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(disk.Major, d.Minor)))
	if err != nil && !errors.Is(err, unix.EPERM) {
		return caller.Call{}, fmt.Errorf("mknod %s: %w", node, err)
	}
	return mount(node, dir, "ext4", 0)
}

// mountImage has fuse2fs of the container mount the image, read-only: it is unmounted before fuse2fs has written all,
// and mounted again.
func mountImage(d disk.Disk) (caller.Call, error) {
	err := unix.Mknod("/dev/fuse", unix.S_IFCHR|0o600, int(unix.Mkdev(fuseMajor, fuseMinor)))
	if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EEXIST) {
		return caller.Call{}, fmt.Errorf("mknod /dev/fuse: %w", err)
	}
	return mount(d.Image, "/tmp/image", "ext2", unix.MS_RDONLY)
}

func mount(source, dir, kind string, flags uintptr) (caller.Call, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return caller.Call{}, err
	}
	call, err := caller.Mount(source, dir, kind, flags)
	return showing(call, func() string { return mountText(dir) }), err
}

// mountText says whose the mounted filesystem is, and how it is mounted.
func mountText(dir string) string {
	var st unix.Stat_t
	var statfs unix.Statfs_t
	if err := errors.Join(unix.Stat(dir, &st), unix.Statfs(dir, &statfs)); err != nil {
		return err.Error()
	}
	var flags []string
	for _, f := range []struct {
		flag int64
		name string
	}{{unix.ST_NOSUID, "nosuid"}, {unix.ST_NODEV, "nodev"}} {
		if statfs.Flags&f.flag != 0 {
			flags = append(flags, f.name)
		}
	}
	owner := "root's"
	if st.Uid != 0 {
		owner = fmt.Sprintf("user %d's", st.Uid)
	}
	return fmt.Sprintf("mounted, %s: %s", owner, strings.Join(flags, ", "))
}
