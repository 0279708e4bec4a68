package strace

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// known has how the system calls of the project's own plugins are shown, and of what their callers use with them.
var known = map[string]func(Call) []string{
	"mknod":   node(show(path, mode, device)),
	"mknodat": node(show(dirfd, path, mode, device)),

	"mount":      show(path, path, str, mountFlags, str),
	"umount2":    show(path, flags(32, umountFlags)),
	"fsopen":     show(str, flags(32, []named{{unix.FSOPEN_CLOEXEC, "FSOPEN_CLOEXEC"}})),
	"fspick":     show(dirfd, path, flags(32, fspickFlags)),
	"fsconfig":   fsconfig,
	"fsmount":    show(decimal, flags(32, []named{{unix.FSMOUNT_CLOEXEC, "FSMOUNT_CLOEXEC"}}), flags(32, mountAttributes)),
	"move_mount": show(dirfd, path, dirfd, path, flags(32, moveFlags)),
	"open_tree":  show(dirfd, path, flags(32, openTreeFlags)),

	"setxattr":      show(path, str, str, size, flags(32, xattrFlags)),
	"lsetxattr":     show(path, str, str, size, flags(32, xattrFlags)),
	"fsetxattr":     show(decimal, str, str, size, flags(32, xattrFlags)),
	"setxattrat":    show(dirfd, path, flags(32, atFlags), str, xattrArgs, size),
	"getxattr":      show(path, str, pointer, size),
	"lgetxattr":     show(path, str, pointer, size),
	"fgetxattr":     show(decimal, str, pointer, size),
	"getxattrat":    show(dirfd, path, flags(32, atFlags), str, xattrArgs, size),
	"listxattr":     show(path, pointer, size),
	"llistxattr":    show(path, pointer, size),
	"flistxattr":    show(decimal, pointer, size),
	"listxattrat":   show(dirfd, path, flags(32, atFlags), pointer, size),
	"removexattr":   show(path, str),
	"lremovexattr":  show(path, str),
	"fremovexattr":  show(decimal, str),
	"removexattrat": show(dirfd, path, flags(32, atFlags), str),

	"sched_setscheduler": show(decimal, policy, priority),
	"sched_setparam":     show(decimal, priority),
	"sched_setattr":      show(decimal, schedAttr, flags(32, nil)),
	"setpriority":        show(one([]string{"PRIO_PROCESS", "PRIO_PGRP", "PRIO_USER"}), decimal, decimal),
	"ioprio_set":         show(one([]string{"", "IOPRIO_WHO_PROCESS", "IOPRIO_WHO_PGRP", "IOPRIO_WHO_USER"}), decimal, ioPriority),

	"bpf":     show(bpfCommand, bpfAttr, size32),
	"sysinfo": show(pointer),
}

// node leaves out the device number of what is not a device: the kernel does not look at it.
func node(all func(Call) []string) func(Call) []string {
	return func(c Call) []string {
		shown := all(c)
		last := len(shown) - 1
		if kind := c.Args[last-1] & unix.S_IFMT; kind != unix.S_IFCHR && kind != unix.S_IFBLK {
			return shown[:last]
		}
		return shown
	}
}

// mountFlags are a long. The magic number in the upper half means nothing any more (mount(2)).
func mountFlags(c Call, i int) string {
	value := c.Args[i]
	if value&unix.MS_MGC_MSK != unix.MS_MGC_VAL {
		return bits(value, mountBits)
	}
	if value &^= unix.MS_MGC_MSK; value != 0 {
		return "MS_MGC_VAL|" + bits(value, mountBits)
	}
	return "MS_MGC_VAL"
}

var (
	mountBits = []named{
		{unix.MS_RDONLY, "MS_RDONLY"}, {unix.MS_NOSUID, "MS_NOSUID"}, {unix.MS_NODEV, "MS_NODEV"}, {unix.MS_NOEXEC, "MS_NOEXEC"},
		{unix.MS_SYNCHRONOUS, "MS_SYNCHRONOUS"}, {unix.MS_REMOUNT, "MS_REMOUNT"}, {unix.MS_MANDLOCK, "MS_MANDLOCK"},
		{unix.MS_DIRSYNC, "MS_DIRSYNC"}, {unix.MS_NOSYMFOLLOW, "MS_NOSYMFOLLOW"}, {unix.MS_NOATIME, "MS_NOATIME"},
		{unix.MS_NODIRATIME, "MS_NODIRATIME"}, {unix.MS_BIND, "MS_BIND"}, {unix.MS_MOVE, "MS_MOVE"}, {unix.MS_REC, "MS_REC"},
		{unix.MS_SILENT, "MS_SILENT"}, {unix.MS_POSIXACL, "MS_POSIXACL"}, {unix.MS_UNBINDABLE, "MS_UNBINDABLE"},
		{unix.MS_PRIVATE, "MS_PRIVATE"}, {unix.MS_SLAVE, "MS_SLAVE"}, {unix.MS_SHARED, "MS_SHARED"}, {unix.MS_RELATIME, "MS_RELATIME"},
		{unix.MS_KERNMOUNT, "MS_KERNMOUNT"}, {unix.MS_I_VERSION, "MS_I_VERSION"}, {unix.MS_STRICTATIME, "MS_STRICTATIME"},
		{unix.MS_LAZYTIME, "MS_LAZYTIME"}, {unix.MS_ACTIVE, "MS_ACTIVE"}, {unix.MS_NOUSER, "MS_NOUSER"},
	}
	umountFlags = []named{
		{unix.MNT_FORCE, "MNT_FORCE"}, {unix.MNT_DETACH, "MNT_DETACH"}, {unix.MNT_EXPIRE, "MNT_EXPIRE"},
		{unix.UMOUNT_NOFOLLOW, "UMOUNT_NOFOLLOW"},
	}
	fspickFlags = []named{
		{unix.FSPICK_CLOEXEC, "FSPICK_CLOEXEC"}, {unix.FSPICK_SYMLINK_NOFOLLOW, "FSPICK_SYMLINK_NOFOLLOW"},
		{unix.FSPICK_NO_AUTOMOUNT, "FSPICK_NO_AUTOMOUNT"}, {unix.FSPICK_EMPTY_PATH, "FSPICK_EMPTY_PATH"},
	}
	mountAttributes = []named{
		{unix.MOUNT_ATTR_RDONLY, "MOUNT_ATTR_RDONLY"}, {unix.MOUNT_ATTR_NOSUID, "MOUNT_ATTR_NOSUID"},
		{unix.MOUNT_ATTR_NODEV, "MOUNT_ATTR_NODEV"}, {unix.MOUNT_ATTR_NOEXEC, "MOUNT_ATTR_NOEXEC"},
		{unix.MOUNT_ATTR_NOATIME, "MOUNT_ATTR_NOATIME"}, {unix.MOUNT_ATTR_STRICTATIME, "MOUNT_ATTR_STRICTATIME"},
		{unix.MOUNT_ATTR_NODIRATIME, "MOUNT_ATTR_NODIRATIME"}, {unix.MOUNT_ATTR_IDMAP, "MOUNT_ATTR_IDMAP"},
		{unix.MOUNT_ATTR_NOSYMFOLLOW, "MOUNT_ATTR_NOSYMFOLLOW"},
	}
	moveFlags = []named{
		{unix.MOVE_MOUNT_F_SYMLINKS, "MOVE_MOUNT_F_SYMLINKS"}, {unix.MOVE_MOUNT_F_AUTOMOUNTS, "MOVE_MOUNT_F_AUTOMOUNTS"},
		{unix.MOVE_MOUNT_F_EMPTY_PATH, "MOVE_MOUNT_F_EMPTY_PATH"}, {unix.MOVE_MOUNT_T_SYMLINKS, "MOVE_MOUNT_T_SYMLINKS"},
		{unix.MOVE_MOUNT_T_AUTOMOUNTS, "MOVE_MOUNT_T_AUTOMOUNTS"}, {unix.MOVE_MOUNT_T_EMPTY_PATH, "MOVE_MOUNT_T_EMPTY_PATH"},
		{unix.MOVE_MOUNT_SET_GROUP, "MOVE_MOUNT_SET_GROUP"},
	}
	openTreeFlags = append([]named{
		{unix.OPEN_TREE_CLONE, "OPEN_TREE_CLONE"}, {unix.OPEN_TREE_CLOEXEC, "OPEN_TREE_CLOEXEC"}, {unix.AT_RECURSIVE, "AT_RECURSIVE"},
	}, atFlags...)
	atFlags = []named{
		{unix.AT_SYMLINK_NOFOLLOW, "AT_SYMLINK_NOFOLLOW"}, {unix.AT_NO_AUTOMOUNT, "AT_NO_AUTOMOUNT"}, {unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"},
	}
	xattrFlags     = []named{{unix.XATTR_CREATE, "XATTR_CREATE"}, {unix.XATTR_REPLACE, "XATTR_REPLACE"}}
	configCommands = []string{
		"FSCONFIG_SET_FLAG", "FSCONFIG_SET_STRING", "FSCONFIG_SET_BINARY", "FSCONFIG_SET_PATH", "FSCONFIG_SET_PATH_EMPTY",
		"FSCONFIG_SET_FD", "FSCONFIG_CMD_CREATE", "FSCONFIG_CMD_RECONFIGURE", "FSCONFIG_CMD_CREATE_EXCL",
	}
)

// fsconfig shows what each command takes (fsconfig(2)).
func fsconfig(c Call) []string {
	value, aux := pointer, decimal
	switch uint32(c.Args[1]) {
	case unix.FSCONFIG_SET_STRING:
		value = str
	case unix.FSCONFIG_SET_PATH, unix.FSCONFIG_SET_PATH_EMPTY:
		value, aux = path, dirfd
	}
	return show(decimal, one(configCommands), str, value, aux)(c)
}

// xattrArgs is struct xattr_args (include/uapi/linux/xattr.h).
func xattrArgs(c Call, i int) string {
	data, ok := c.copied(i)
	if !ok || len(data) < 16 {
		return pointer(c, i)
	}
	value, length, flags := binary.LittleEndian.Uint64(data), binary.LittleEndian.Uint32(data[8:]), binary.LittleEndian.Uint32(data[12:])
	return fmt.Sprintf("{value=%s, size=%d, flags=%s}", hex(value), length, bits(uint64(flags), xattrFlags))
}

var policies = []string{"SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE", "SCHED_EXT"}

func policy(c Call, i int) string {
	value := uint32(c.Args[i])
	if value&unix.SCHED_RESET_ON_FORK != 0 {
		return "SCHED_RESET_ON_FORK|" + nth(policies, value&^unix.SCHED_RESET_ON_FORK)
	}
	return nth(policies, value)
}

// priority is struct sched_param, of one int.
func priority(c Call, i int) string {
	data, ok := c.copied(i)
	if !ok || len(data) < 4 {
		return pointer(c, i)
	}
	return fmt.Sprintf("[%d]", int32(binary.LittleEndian.Uint32(data)))
}

var schedFlags = []named{
	{unix.SCHED_FLAG_RESET_ON_FORK, "SCHED_FLAG_RESET_ON_FORK"}, {unix.SCHED_FLAG_RECLAIM, "SCHED_FLAG_RECLAIM"},
	{unix.SCHED_FLAG_DL_OVERRUN, "SCHED_FLAG_DL_OVERRUN"}, {unix.SCHED_FLAG_KEEP_POLICY, "SCHED_FLAG_KEEP_POLICY"},
	{unix.SCHED_FLAG_KEEP_PARAMS, "SCHED_FLAG_KEEP_PARAMS"}, {unix.SCHED_FLAG_UTIL_CLAMP_MIN, "SCHED_FLAG_UTIL_CLAMP_MIN"},
	{unix.SCHED_FLAG_UTIL_CLAMP_MAX, "SCHED_FLAG_UTIL_CLAMP_MAX"},
}

// schedAttrSize is the size of the first version of struct sched_attr, in bytes (sched_setattr(2)).
const schedAttrSize = 48

func schedAttr(c Call, i int) string {
	d, ok := c.copied(i)
	if !ok || len(d) < schedAttrSize {
		return pointer(c, i)
	}
	u32, u64 := binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	return fmt.Sprintf("{size=%d, sched_policy=%s, sched_flags=%s, sched_nice=%d, sched_priority=%d, sched_runtime=%d, "+
		"sched_deadline=%d, sched_period=%d}", u32(d), nth(policies, u32(d[4:])), bits(u64(d[8:]), schedFlags), int32(u32(d[16:])),
		u32(d[20:]), u64(d[24:]), u64(d[32:]), u64(d[40:]))
}

// ioPriority has the class in its upper 3 of 16 bits (ioprio_set(2)).
func ioPriority(c Call, i int) string {
	classes := []string{"IOPRIO_CLASS_NONE", "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"}
	value := uint32(c.Args[i])
	return fmt.Sprintf("IOPRIO_PRIO_VALUE(%s, %d)", nth(classes, value>>13), value&0x1fff)
}

// structure shows fields as strace does.
func structure(fields []string) string { return "{" + strings.Join(fields, ", ") + "}" }
