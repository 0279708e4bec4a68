package main

import (
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

func TestPaths(t *testing.T) {
	check := "sys getxattr s:/tmp/%/d" + getInto // % is the name of the test
	tests := map[string]scripted{
		"absolute":         {[]string{"sys setxattr s:/tmp/absolute/d" + opaqueY, check}, "ok ok", "value value"},
		"relative":         {[]string{"sys setxattr s:./d/.././d//" + opaqueY, check}, "ok ok", "value value"},
		"dot":              {[]string{"chdir d", "sys setxattr s:." + opaqueY, check}, "ok ok", "value value"},
		"dot-dot":          {[]string{"mkdir d/e", "chdir d/e", "sys setxattr s:.." + opaqueY, check}, "ok ok", "value value"},
		"above-root":       {[]string{"sys setxattr s:/../../tmp/above-root/d" + opaqueY, check}, "ok ok", "value value"},
		"root":             {[]string{"sys setxattr s:/" + opaqueY, "sys getxattr s:/" + getInto, "sys removexattr s:/.." + opaque}, "ok ok ok", "value value value"},
		"symlinked-parent": {[]string{"do symlink s:/tmp/symlinked-parent s:l", "do symlink s:l s:k", "sys setxattr s:k/d" + opaqueY, check}, "ok ok", "value value"},
		"symlink":          {[]string{"do symlink s:d s:l", "sys setxattr s:l" + opaqueY, check, "sys lgetxattr s:l" + getInto}, "ok ok ENODATA", "value value errno"},
		"symlink-itself":   {[]string{"do symlink s:d s:l", "sys lsetxattr s:l" + opaqueY, "sys lgetxattr s:l" + getInto, "sys getxattr s:d" + getInto, "sys lremovexattr s:l" + opaque, "sys lgetxattr s:l" + getInto}, "ok ok ENODATA ok ENODATA", "value value errno value errno"},
		"symlink-at": {[]string{"do symlink s:d s:l", "sys setxattrat AT_FDCWD s:l AT_SYMLINK_NOFOLLOW" + opaque + args, "sys getxattr s:d" + getInto, "sys setxattrat AT_FDCWD s:l 0" + opaque + args, "sys getxattr s:d" + getInto,
			"sys removexattrat AT_FDCWD s:l AT_SYMLINK_NOFOLLOW" + opaque, "sys getxattr s:d" + getInto}, "ok ENODATA ok ok ok ok", "value errno value value value value"},
		"symlink-slash":  {[]string{"do symlink s:d s:l", "sys lsetxattr s:l/" + opaqueY, check}, "ok ok", "value value"},
		"dangling":       {[]string{"do symlink s:no s:l", "sys setxattr s:l" + opaqueY, "sys lsetxattr s:l" + opaqueY, "sys setxattr s:l/" + opaqueY}, "ENOENT ok ENOENT", "continue value continue"},
		"looping":        {[]string{"do symlink s:l s:l", "sys setxattr s:l" + opaqueY, "sys lsetxattr s:l" + opaqueY, "sys setxattr s:l/d" + opaqueY}, "ELOOP ok ELOOP", "continue value continue"},
		"missing":        {[]string{"sys setxattr s:no" + opaqueY, "sys setxattr s:no/d" + opaqueY, "sys getxattr s:no" + getInto, "sys removexattr s:no" + opaque}, "ENOENT ENOENT ENOENT ENOENT", "continue continue continue continue"},
		"slash-and-file": {[]string{"sys setxattr s:f/" + opaqueY, "sys setxattr s:f/." + opaqueY, "sys setxattr s:f/x" + opaqueY}, "ENOTDIR ENOTDIR ENOTDIR", "continue continue continue"},
		"longest-path":   {[]string{"write x y", "sys setxattr longpath:4095" + opaqueY, "sys getxattr s:x" + getInto}, "ok ok", "value value"},
		"odd-bytes":      {[]string{"mkdir \xff\n\x01é", "sys setxattr s:\xff\n\x01é" + opaqueY, "sys getxattr s:\xff\n\x01é" + getInto}, "ok ok", "value value"},
		"fifo":           {[]string{"do mknod s:p S_IFIFO|0600 0", "sys setxattr s:p" + opaqueY, "sys getxattr s:p" + getInto, "open p O_RDWR", "sys fremovexattr @0" + opaque}, "ok ok ok", "value value value"},
		"socket":         {[]string{"do mknod s:s S_IFSOCK|0600 0", "sys setxattr s:s" + opaqueY, "sys lgetxattr s:s" + getInto}, "ok ok", "value value"},

		"dirfd":               {[]string{"open . O_PATH", "chdir /", "sys setxattrat @0 s:d 0" + opaque + args, check}, "ok ok", "value value"},
		"dirfd-directory":     {[]string{"open d O_RDONLY|O_DIRECTORY", "sys setxattrat @0 s:../d 0" + opaque + args, check}, "ok ok", "value value"},
		"dirfd-file":          {[]string{"open f O_RDONLY", "sys setxattrat @0 s:d 0" + opaque + args, "sys setxattrat @0 s:. 0" + opaque + args}, "ENOTDIR ENOTDIR", "continue continue"},
		"dirfd-and-absolute":  {[]string{"sys setxattrat 99 s:/tmp/dirfd-and-absolute/d 0" + opaque + args, check}, "ok ok", "value value"},
		"dirfd-of-32-bits":    {[]string{"open . O_PATH", "sys setxattrat 0xdead00000003 s:d 0" + opaque + args, check}, "ok ok", "value value"},
		"dirfd-removed":       {[]string{"open d O_PATH", "do rmdir s:d", "sys setxattrat @0 s:f 0" + opaque + args, "sys setxattrat @0 s:. 0" + opaque + args}, "ENOENT ok", "continue value"},
		"descriptor-removed":  {[]string{"open f O_RDONLY", "do unlink s:f", "sys fsetxattr @0" + opaqueY, "sys fgetxattr @0" + getInto}, "ok ok", "value value"},
		"descriptor-moved":    {[]string{"open d O_RDONLY", "do rename s:d s:e", "mkdir d", "sys fsetxattr @0" + opaqueY, "sys getxattr s:e" + getInto, check}, "ok ok ENODATA", "value value errno"},
		"descriptor-written":  {[]string{"open f O_WRONLY", "sys fsetxattr @0" + opaqueY, "sys getxattr s:f" + getInto}, "ok ok", "value value"},
		"descriptor-32-bits":  {[]string{"open d O_RDONLY", "sys fsetxattr 0xdead00000003" + opaqueY, check}, "ok ok", "value value"},
		"descriptor-nonblock": {[]string{"do mknod s:p S_IFIFO|0600 0", "open p O_RDWR|O_NONBLOCK", "sys fsetxattr @0" + opaqueY, "sys fcntl @0 F_GETFL"}, "ok ok", "value"},
	}
	newPair(t).run(t, named(tests))
}

// TestProcPaths go through what is different for everyone who asks.
func TestProcPaths(t *testing.T) {
	check := "sys getxattr s:/tmp/%/d" + getInto
	newPair(t).run(t, named(map[string]scripted{
		"fd":          {[]string{"open d O_PATH", "sys setxattr s:/proc/self/fd/3" + opaqueY, check, "sys removexattr s:/proc/self/fd/3" + opaque, check}, "ok ok ok ENODATA", "value value value errno"},
		"fd-symlink":  {[]string{"do symlink s:d s:l", "open l O_PATH|O_NOFOLLOW", "sys setxattr s:/proc/self/fd/3" + opaqueY, "sys lgetxattr s:l" + getInto, check}, "ok ok ENODATA", "value value errno"},
		"fd-slash":    {[]string{"open d O_PATH", "sys lsetxattr s:/proc/self/fd/3/" + opaqueY, check, "open f O_PATH", "sys setxattr s:/proc/self/fd/4/" + opaqueY}, "ok ok ENOTDIR", "value value continue"},
		"fd-at":       {[]string{"open d O_PATH", "open /proc/self/fd O_PATH", "sys setxattrat @1 s:3 0" + opaque + args, check}, "ok ok", "value value"},
		"fd-missing":  {[]string{"sys setxattr s:/proc/self/fd/77" + opaqueY}, "ENOENT", "continue"},
		"cwd":         {[]string{"chdir d", "sys setxattr s:/proc/self/cwd" + opaqueY, check}, "ok ok", "value value"},
		"root":        {[]string{"sys setxattr s:/proc/self/root/tmp/%/d" + opaqueY, check, "sys setxattr s:/proc/self/root" + opaqueY, "sys removexattr s:/" + opaque}, "ok ok ok ok", "value value value value"},
		"thread-self": {[]string{"thread", "do unshare CLONE_FS", "chdir d", "sys setxattr s:/proc/thread-self/cwd" + opaqueY, check, "sys setxattr s:/proc/self/cwd/f" + opaqueY, "sys getxattr s:../f" + getInto}, "ok ok ok ok", "value value value value"},
		"no-leader":   {[]string{"leader-exits", "sys setxattr s:d" + opaqueY, check, "sys setxattr s:/proc/thread-self/cwd/d" + opaqueY, "open d O_RDONLY", "sys fsetxattr @0" + opaqueY}, "ok ok ok ok", "value value value value"},
		"init":        {[]string{"sys setxattr s:/proc/1/root/tmp/%/d" + opaqueY, check}, "ok ok", "value value"},
		"symlinked":   {[]string{"chdir d", "do symlink s:/proc/self s:l", "do symlink s:l/cwd s:k", "sys setxattr s:k" + opaqueY, check}, "ok ok", "value value"},
		"relative":    {[]string{"chdir d", "do symlink s:../../../proc/self/cwd s:l", "sys setxattr s:l" + opaqueY, check}, "ok ok", "value value"},
		"self":        {[]string{"sys setxattr s:/proc/self" + opaqueY, "sys setxattr s:/proc/thread-self/" + opaqueY, "do symlink s:/proc/self s:l", "sys setxattr s:l" + opaqueY}, "EPERM EPERM EPERM", "errno errno errno"},
		"no-power":    {[]string{"open d O_PATH", "dropcap 1", "dropcap 2", "dropcap 19", "sys setxattr s:/proc/self/fd/3" + opaqueY, check, "sys setxattr s:/proc/1/root/tmp" + opaqueY}, "ok ok EACCES", "value value continue"},
	}))
}

func TestPlaces(t *testing.T) {
	check := "sys getxattr s:/tmp/%/d" + getInto
	readOnly := []string{"unshare mount", "sys setxattr s:f" + opaqueY, "mount none . . MS_BIND -", "mount none none /tmp/% MS_BIND|MS_REMOUNT|MS_RDONLY -", "chdir /tmp/%", "open d O_RDONLY",
		"sys setxattr s:d" + opaqueY, "sys fsetxattr @0" + opaqueY, "sys setxattrat @0 s: AT_EMPTY_PATH" + opaque + args, "sys getxattr s:f" + getInto, "sys removexattr s:f" + opaque, "sys removexattr s:d" + opaque, "sys setxattr s:no" + opaqueY, "sys setxattr s:d s: s:y 1 0"}
	newPair(t).run(t, named(map[string]scripted{
		"chroot":          {[]string{"do chmod s:. 0755", "chroot .", "sys setxattr s:/d" + opaqueY, "sys setxattr s:/../../d" + opaqueY, "sys getxattr s:/d" + getInto, "do symlink s:/d s:/l", "sys setxattr s:/l" + opaqueY, "sys setxattr s:d" + opaqueY}, times(5, "ok"), times(5, "value")},
		"mount-namespace": {[]string{"unshare mount", "mount tmpfs none d 0 mode=755", "sys setxattr s:d" + opaqueY, "sys getxattr s:d" + getInto, "do umount2 s:d MNT_DETACH", "sys getxattr s:d" + getInto}, "ok ok ENODATA", "value value errno"},
		"bind-mount":      {[]string{"unshare mount", "mkdir b", "mount none d b MS_BIND -", "sys setxattr s:b" + opaqueY, check}, "ok ok", "value value"},
		"read-only":       {readOnly, "ok EROFS EROFS EROFS ok EROFS EROFS ENOENT ERANGE", "value errno errno errno value errno errno continue continue"},
		"thread":          {[]string{"thread", "sys setxattr s:d" + opaqueY, check, "open d O_RDONLY", "sys fremovexattr @0" + opaque}, "ok ok ok", "value value value"},
		"child":           {[]string{"fork", "sys setxattr s:d" + opaqueY, check}, "ok ok", "value value"},
		"own-tmpfs":       {[]string{"mount tmpfs none /mnt 0 -", "write /mnt/f x", "sys setxattr s:/mnt" + opaqueY, "sys setxattr s:/mnt/f" + opaqueY, "sys getxattr s:/mnt/f" + getInto, "sys getxattr s:/mnt" + getInto}, times(4, "ok"), times(4, "value")},
		"covered-proc":    {[]string{"unshare mount", "mount tmpfs none /proc 0 -", "sys setxattr s:d" + opaqueY, check, "open d O_RDONLY", "sys fremovexattr @0" + opaque}, "ok ok ok", "value value value"},
	}))
}

// TestHostTmpfs is a filesystem whose superblock belongs to the host.
func TestHostTmpfs(t *testing.T) {
	mount := func() sdktest.Option { return sdktest.WithMount(sdktest.Tmpfs(t, 0), "/mnt/host") }
	readOnly := func() sdktest.Option { return sdktest.WithMount(sdktest.Tmpfs(t, unix.MOUNT_ATTR_RDONLY), "/mnt/ro") }
	p := pair{&sdktest.Pair{
		Container: sdktest.NewContainer(t, handler{}, reading, mount(), readOnly()),
		Host:      sdktest.NewContainer(t, nil, sdktest.WithRealRoot(), mount(), readOnly()),
	}}
	p.run(t, map[string]scripted{
		"writable": {[]string{"write /mnt/host/f x", "sys setxattr s:/mnt/host/f" + opaqueY, "sys getxattr s:/mnt/host/f" + getInto}, "ok ok", "value value"},
		"its-root": {[]string{"sys setxattr s:/mnt/ro" + opaqueY}, "EROFS", "continue"},
	})
}
