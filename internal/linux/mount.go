package linux

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// NewMount makes a superblock and returns its detached mount (fsopen(2), fsconfig(2), fsmount(2)), which ends with its
// last descriptor unless Attach puts it somewhere. Parameters are strings in the filesystem's terms; attributes are
// unix.MOUNT_ATTR_*.
func NewMount(fstype string, parameters map[string]string, attributes int) (*os.File, error) {
	context, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen %s: %w", fstype, err)
	}
	defer unix.Close(context)
	for key, value := range parameters {
		if err := unix.FsconfigSetString(context, key, value); err != nil {
			return nil, fmt.Errorf("set %s=%s of %s: %w", key, value, fstype, err)
		}
	}
	if err := unix.FsconfigCreate(context); err != nil {
		return nil, fmt.Errorf("create %s: %w", fstype, err)
	}
	mount, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return nil, fmt.Errorf("fsmount %s: %w", fstype, err)
	}
	return os.NewFile(uintptr(mount), fstype), nil
}

// CloneMount makes a detached copy of what is mounted at path, with the mounts below it if recursive is
// unix.AT_RECURSIVE, else 0 (open_tree(2)).
func CloneMount(path string, recursive uint) (*os.File, error) {
	mount, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|recursive)
	if err != nil {
		return nil, fmt.Errorf("clone the mount at %s: %w", path, err)
	}
	return os.NewFile(uintptr(mount), path), nil
}

// CloneReadOnly makes a detached mount of the open file alone, read-only: whoever has a descriptor of the file from
// there can change neither the file nor its owner or mode, whatever its privileges (open_tree(2), mount_setattr(2)).
// The file must be in this process's mount namespace.
func CloneReadOnly(file *os.File) (*os.File, error) {
	mount, err := unix.OpenTree(int(file.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, fmt.Errorf("clone the mount of %s: %w", file.Name(), err)
	}
	clone := os.NewFile(uintptr(mount), file.Name())
	if err := SetMount(clone, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, 0); err != nil {
		clone.Close()
		return nil, err
	}
	return clone, nil
}

// SetMount sets attributes of the mount, unix.MOUNT_ATTR_*, and has it neither give nor take what is mounted elsewhere;
// with unix.AT_RECURSIVE as recursive those of all mounts below it too (mount_setattr(2)).
func SetMount(mount *os.File, attributes uint64, recursive uint) error {
	return ChangeMount(mount, attributes, 0, recursive)
}

// ChangeMount is SetMount that also takes attributes away.
func ChangeMount(mount *os.File, set, clear uint64, recursive uint) error {
	if set&unix.MOUNT_ATTR__ATIME != 0 {
		clear |= unix.MOUNT_ATTR__ATIME // it is a field of several bits, which has to be cleared to be set
	}
	attributes := unix.MountAttr{Attr_set: set, Attr_clr: clear, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(int(mount.Fd()), "", unix.AT_EMPTY_PATH|recursive, &attributes); err != nil {
		return fmt.Errorf("set attributes %#x of the mount of %s: %w", set, mount.Name(), err)
	}
	return nil
}

// Attach puts a detached mount at path in the calling thread's mount namespace (move_mount(2)).
func Attach(mount *os.File, path string) error {
	if err := unix.MoveMount(int(mount.Fd()), "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s at %s: %w", mount.Name(), path, err)
	}
	return nil
}

// AttachOn puts a detached mount on an open file, which may be a descriptor with O_PATH, in the calling thread's mount
// namespace (move_mount(2)).
func AttachOn(mount, file *os.File) error {
	const both = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	if err := unix.MoveMount(int(mount.Fd()), "", int(file.Fd()), "", both); err != nil {
		return fmt.Errorf("mount %s at %s: %w", mount.Name(), file.Name(), err)
	}
	return nil
}

// PivotHere makes the working directory, which is a mount's root, the root of the mount namespace and leaves nothing of
// the old one in it (pivot_root(2), "pivot_root(".", ".")": the old root lands upon the new one and is unmounted from
// there). Mounts of the namespace must be private before, or the unmounting reaches others.
func PivotHere() error {
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change to the new root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	return nil
}
