package mount

import "golang.org/x/sys/unix"

// msFlags are the flags of mount(2).
type msFlags uint64

const (
	msPropagation = unix.MS_UNBINDABLE | unix.MS_PRIVATE | unix.MS_SLAVE | unix.MS_SHARED
	msOther       = unix.MS_REMOUNT | unix.MS_BIND | unix.MS_MOVE // each makes mount(2) another call
)

// decodeFlags discards the magic number that programs of the last century send (path_mount, fs/namespace.c).
func decodeFlags(register uint64) msFlags {
	if register&unix.MS_MGC_MSK == unix.MS_MGC_VAL {
		register &^= unix.MS_MGC_MSK
	}
	return msFlags(register)
}

func (f msFlags) has(flag uint64) bool { return uint64(f)&flag != 0 }

// isRemount reports whether a superblock is to be changed.
func (f msFlags) isRemount() bool { return f&(unix.MS_REMOUNT|unix.MS_BIND) == unix.MS_REMOUNT }

// isInvalid reports whether the kernel refuses the flags whatever the rest is: MS_NOUSER is a negative int there, so
// that the upper half of the register counts too.
func (f msFlags) isInvalid() bool { return uint64(f)>>31 != 0 }

// superblockFlags are the flags that belong to the superblock, as option names of fsconfig(2) (common_set_sb_flag,
// fs/fs_context.c). MS_SILENT, MS_POSIXACL and MS_I_VERSION have none; filesystems set the last two by themselves.
var superblockFlags = []struct {
	flag uint64
	name string
}{
	{unix.MS_RDONLY, "ro"},
	{unix.MS_SYNCHRONOUS, "sync"},
	{unix.MS_DIRSYNC, "dirsync"},
	{unix.MS_MANDLOCK, "mand"},
	{unix.MS_LAZYTIME, "lazytime"},
}

// superblockOptions are the flags that belong to the superblock, as options.
func (f msFlags) superblockOptions() []option {
	var options []option
	for _, s := range superblockFlags {
		if f.has(s.flag) {
			options = append(options, option{key: s.name})
		}
	}
	return options
}

// attributes are the flags that belong to the mount, as attributes of fsmount(2) and mount_setattr(2).
type attributes uint64

// lockedAttributes are those that the container is not to change: device nodes that it has made itself, on the device,
// would be opened by whoever it passes a directory of the mount to.
func (p *policy) lockedAttributes() attributes {
	if p.deviceNodes {
		return unix.MOUNT_ATTR_NOSUID
	}
	return unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
}

// lockedFlags are they, as flags.
func (p *policy) lockedFlags() msFlags {
	if p.deviceNodes {
		return unix.MS_NOSUID
	}
	return unix.MS_NOSUID | unix.MS_NODEV
}

// atimeAttributes are those that the kernel locks together with them (lock_mnt_tree, fs/pnode.c).
const atimeAttributes attributes = unix.MOUNT_ATTR__ATIME | unix.MOUNT_ATTR_NODIRATIME

// hasOddAtime reports whether the attributes say more than one thing about access times (fsmount, fs/namespace.c).
func (a attributes) hasOddAtime() bool {
	atime := a & unix.MOUNT_ATTR__ATIME
	return atime != unix.MOUNT_ATTR_RELATIME && atime != unix.MOUNT_ATTR_NOATIME && atime != unix.MOUNT_ATTR_STRICTATIME
}

// attributes turns flags into attributes, as path_mount does.
func (f msFlags) attributes() attributes {
	var a attributes
	for _, m := range []struct {
		flag      uint64
		attribute attributes
	}{
		{unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY},
		{unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID},
		{unix.MS_NODEV, unix.MOUNT_ATTR_NODEV},
		{unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC},
		{unix.MS_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME},
		{unix.MS_NOSYMFOLLOW, unix.MOUNT_ATTR_NOSYMFOLLOW},
	} {
		if f.has(m.flag) {
			a |= m.attribute
		}
	}
	switch {
	case f.has(unix.MS_STRICTATIME):
		a |= unix.MOUNT_ATTR_STRICTATIME
	case f.has(unix.MS_NOATIME):
		a |= unix.MOUNT_ATTR_NOATIME
	}
	return a
}
