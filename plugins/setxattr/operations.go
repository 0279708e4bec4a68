package setxattr

import (
	"os"
	"strings"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// trusted is how the names begin that the kernel shows to CAP_SYS_ADMIN alone.
const trusted = "trusted."

func (j job) set(file *os.File, link string) sdk.Response {
	if !j.affords(file) {
		return sdk.Errno(unix.ENOSPC).Because(tooMuchInMemory, "")
	}
	return answer(unix.Setxattr(link, j.name, []byte(j.value), j.flags))
}

// maxInMemory bounds what a session's attributes may take of the host's memory, in bytes: on filesystems that are not
// known to be on a disk, values are in the kernel's memory.
const maxInMemory = 32 << 20

// overhead is more than what the kernel needs beside name and value (struct simple_xattr, linux/xattr.h), in bytes.
const overhead = 128

// affords charges the session for a value of any length. What is removed later is not given back: files vanish without
// a call that the plugin hears of. A value of one character is as cheap as the file itself.
func (j job) affords(file *os.File) bool {
	if len(j.value) == 1 && j.policy.longest(j.name) == 1 || onDisk(file) {
		return true
	}
	size := int64(len(j.name) + len(j.value) + overhead)
	if j.inMemory.Add(size) > maxInMemory {
		j.inMemory.Add(-size)
		return false
	}
	return true
}

// onDisk reports whether the file's filesystem keeps attributes on a disk.
func onDisk(file *os.File) bool {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &st); err != nil {
		return false
	}
	switch int64(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC:
		return true
	}
	return false
}

// get reads an attribute that has a listed value. One with another is hidden by the kernel, as it is without the
// plugin.
func (j job) get(link string) sdk.Response {
	value, errno := j.current(link, j.name)
	switch {
	case errno != 0 && errno != unix.ERANGE:
		return sdk.Errno(errno).Because(kernelRefused, "")
	case errno != 0 || !j.policy.allows(j.name, value):
		return sdk.Next().Because(valueNotListed, j.name)
	}
	return j.give(value)
}

// give gives a result of the call, as vfs_getxattr and vfs_listxattr do.
func (j job) give(result string) sdk.Response {
	switch {
	case j.size == 0:
		return sdk.Return(int64(len(result)))
	case j.size < uint64(len(result)):
		return sdk.Errno(unix.ERANGE).Because(kernelRefused, "")
	}
	return sdk.Return(int64(len(result))).Write(j.buffer, []byte(result))
}

// list lists the file's attributes without those of trusted.* that get hides. The kernel hides none but these: where
// none is to be seen, it answers itself.
func (j job) list(link string) sdk.Response {
	all := make([]byte, maxNames)
	n, err := unix.Listxattr(link, all)
	if err != nil {
		return sdk.Next().Because(kernelRefused, "")
	}
	var names strings.Builder
	shown := false
	for name := range strings.SplitAfterSeq(string(all[:n]), "\x00") {
		if strings.HasPrefix(name, trusted) {
			if !j.shows(link, strings.TrimSuffix(name, "\x00")) {
				continue
			}
			shown = true
		}
		names.WriteString(name)
	}
	if !shown {
		return sdk.Next().Because(nothingToShow, "")
	}
	return j.give(names.String())
}

// shows reports whether the attribute has a listed value.
func (j job) shows(link, name string) bool {
	if !j.policy.lists(name) {
		return false
	}
	value, errno := j.current(link, name)
	return errno == 0 && j.policy.allows(name, value)
}

// remove removes an attribute that has a listed value.
func (j job) remove(link string) sdk.Response {
	if value, errno := j.current(link, j.name); errno == unix.ERANGE || errno == 0 && !j.policy.allows(j.name, value) {
		return sdk.Next().Because(valueNotListed, j.name)
	}
	return answer(unix.Removexattr(link, j.name))
}

// current is the value of a listed attribute; ERANGE if it is longer than a listed one can be.
func (j job) current(link, name string) (string, unix.Errno) {
	value := make([]byte, max(j.policy.longest(name), 1)) // without room the kernel tells the size alone
	n, err := unix.Getxattr(link, name, value)
	if err != nil {
		return "", toErrno(err)
	}
	return string(value[:n]), 0
}
