package setxattr

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"sync"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// call is a system call whose arguments are sound and whose attribute is listed.
type call struct {
	operation
	file  file
	done  *bool // not nil: nothing is done, and it is told whether it was done before
	name  string
	value string // of set
	flags int    // of set: XATTR_CREATE, XATTR_REPLACE
	// Of get and list: where the result goes, and how much there is room for; 0: only its size is wanted.
	buffer, size uint64
}

// file is what a call names.
type file struct {
	dirFD  int    // of the caller
	path   string // from dirFD; empty: the file of dirFD itself
	follow bool   // a symbolic link at the end of the path
}

// decode reads the arguments. A call of an attribute that is not listed, or one that the kernel refuses whoever asks,
// is not the plugin's. What is wrong first is then for the kernel to say.
func (p policy) decode(ctx context.Context, req *sdk.Request) (c call, notMine foreign, err error) {
	f := formOf(req.Syscall)
	c.operation = f.operation
	if f.naming == at && !kernelHasXattrat() {
		return c, foreign{unknownToKernel, req.Syscall}, nil
	}
	if f.operation != list {
		var fault unix.Errno
		if c.name, fault = req.String(f.nameArg()); fault != 0 {
			return c, unsound, nil
		}
		if !p.lists(c.name) {
			return c, foreign{attributeNotListed, c.name}, nil
		}
	}
	var sound bool
	if c.file, sound = f.file(req); !sound || !c.file.settle(c.operation) {
		return c, unsound, nil
	}
	switch {
	case f.operation == list:
		c.buffer, c.size = req.Pointer(f.nameArg()), req.Pointer(f.nameArg()+1)
	case f.naming == at:
		sound, err = c.readArgs(ctx, req)
	default:
		sound = c.readRegisters(req)
	}
	switch {
	case !sound:
		return c, unsound, err
	case c.operation == set && !p.allows(c.name, c.value):
		return c, foreign{valueNotListed, c.name}, err
	}
	return c, foreign{}, err
}

func (f form) file(req *sdk.Request) (named file, sound bool) {
	switch f.naming {
	case byDescriptor:
		return file{dirFD: req.FD(0)}, true
	case at:
		return fileAt(req)
	default:
		path, fault := req.Path(0)
		return file{dirFD: unix.AT_FDCWD, path: path, follow: f.naming == byPath}, fault == 0
	}
}

// fileAt reads dirfd, path and at_flags. With AT_EMPTY_PATH the path may be empty, or NULL.
func fileAt(req *sdk.Request) (named file, sound bool) {
	flags := req.Uint32(2)
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return file{}, false
	}
	named = file{dirFD: req.FD(0), follow: flags&unix.AT_SYMLINK_NOFOLLOW == 0}
	mayBeEmpty := flags&unix.AT_EMPTY_PATH != 0
	if mayBeEmpty && req.Pointer(1) == 0 {
		return named, true
	}
	var fault unix.Errno
	named.path, fault = req.String(1)
	return named, fault == 0 && (named.path != "" || mayBeEmpty)
}

// settle makes an empty path from AT_FDCWD one to the working directory, where the kernel takes it for that. It is
// unsound from a descriptor that cannot be.
func (f *file) settle(o operation) (sound bool) {
	if f.path != "" || f.dirFD >= 0 {
		return true
	}
	f.path = "."
	return f.dirFD == unix.AT_FDCWD && takesWorkingDirectory()[o]
}

// takesWorkingDirectory are the operations for which the kernel takes AT_FDCWD with an empty path: since 6.13 getting
// and setting, and neither listing nor removing (path_setxattrat and its kin, fs/xattr.c).
var takesWorkingDirectory = sync.OnceValue(func() map[operation]bool {
	_, got := unix.Fgetxattr(unix.AT_FDCWD, "user.intercede", nil)
	_, listed := unix.Flistxattr(unix.AT_FDCWD, nil)
	return map[operation]bool{get: got != unix.EBADF, set: got != unix.EBADF, list: listed != unix.EBADF}
})

// readRegisters reads what is behind the name: value, size and flags.
func (c *call) readRegisters(req *sdk.Request) (sound bool) {
	switch c.operation {
	case set:
		value, fault := req.Bytes(2)
		c.value = string(value)
		return fault == 0 && c.setFlags(req.Uint32(4))
	case get:
		c.buffer, c.size = req.Pointer(2), req.Pointer(3)
	}
	return true
}

func (c *call) setFlags(flags uint32) (sound bool) {
	c.flags = int(flags)
	return flags&^(unix.XATTR_CREATE|unix.XATTR_REPLACE) == 0
}

// readArgs reads struct xattr_args, which is behind the name with its size.
func (c *call) readArgs(ctx context.Context, req *sdk.Request) (sound bool, err error) {
	if c.operation == remove {
		return true, nil
	}
	args, fault := req.Bytes(4)
	if fault != 0 {
		return false, nil
	}
	if sound, err := onlyZerosBehind(ctx, req); !sound || err != nil {
		return false, err
	}
	value, size, flags := binary.LittleEndian.Uint64(args), binary.LittleEndian.Uint32(args[8:]), binary.LittleEndian.Uint32(args[12:])
	if c.operation == get {
		c.buffer, c.size = value, uint64(size)
		return flags == 0, nil
	}
	if size > maxValue || !c.setFlags(flags) {
		return false, nil
	}
	text, fault, err := req.Read(ctx, value, int(size))
	c.value = string(text)
	return fault == 0, err
}

// onlyZerosBehind reports whether the struct, whose size is the argument behind it, is one that the kernel takes
// (copy_struct_from_user): at least as long as known here, at most a page, and zeros behind what is known.
func onlyZerosBehind(ctx context.Context, req *sdk.Request) (bool, error) {
	usize := req.Pointer(5)
	if usize < argsSize || usize > uint64(os.Getpagesize()) {
		return false, nil
	}
	rest, fault, err := req.Read(ctx, req.Pointer(4)+argsSize, int(usize-argsSize))
	return fault == 0 && len(bytes.Trim(rest, "\x00")) == 0, err
}
