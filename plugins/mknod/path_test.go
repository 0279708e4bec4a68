package main

import (
	"testing"
)

const null = " S_IFCHR|0666 dev:1:3"

func TestPaths(t *testing.T) {
	newPair(t).run(t, map[string]scripted{
		"absolute":          {[]string{"sys mknod s:/tmp/absolute/n" + null, "stat n", "do unlink s:n"}, "ok ok", "value"},
		"relative":          {[]string{"mkdir d", "sys mknod s:./d/.././d//n" + null, "stat d/n"}, "ok ok", "value"},
		"dot-dot":           {[]string{"mkdir d", "chdir d", "sys mknod s:../n" + null, "stat ../n"}, "ok ok", "value"},
		"above-root":        {[]string{"sys mknod s:/../../n" + null, "stat /n", "do unlink s:/n"}, "ok ok", "value"},
		"slashes":           {[]string{"sys mknod s://tmp///slashes//n" + null, "stat n"}, "ok ok", "value"},
		"symlinked-parent":  {[]string{"mkdir d", "do symlink s:d s:l", "do symlink s:/tmp/symlinked-parent/l s:k", "sys mknod s:k/n" + null, "stat d/n"}, "ok ok", "value"},
		"dangling-parent":   {[]string{"do symlink s:no s:l", "sys mknod s:l/n" + null}, "ENOENT", "errno"},
		"looping-parent":    {[]string{"do symlink s:l s:l", "sys mknod s:l/n" + null}, "ELOOP", "errno"},
		"dangling-last":     {[]string{"do symlink s:other s:n", "sys mknod s:n" + null, "stat other"}, "EEXIST ENOENT", "errno"},
		"symlink-last":      {[]string{"mkdir d", "do symlink s:d s:n", "sys mknod s:n" + null, "sys mknod s:n/" + null}, "EEXIST EEXIST", "errno errno"},
		"trailing-slash":    {[]string{"sys mknod s:n/" + null, "sys mknod s:n///" + null, "stat n"}, "ENOENT ENOENT ENOENT", "errno errno"},
		"slash-behind-file": {[]string{"write f x", "sys mknod s:f/" + null, "sys mknod s:f/." + null}, "EEXIST ENOTDIR", "errno errno"},
		"dot-last":          {[]string{"sys mknod s:." + null, "sys mknod s:.." + null, "sys mknod s:./" + null, "sys mknod s:no/." + null, "sys mknod s:no/.." + null}, "EEXIST EEXIST EEXIST ENOENT ENOENT", "errno errno errno errno errno"},
		"root":              {[]string{"sys mknod s:/" + null, "sys mknod s:///" + null, "sys mknod s:/." + null, "sys mknod s:/.." + null}, "EEXIST EEXIST EEXIST EEXIST", "errno errno errno errno"},
		"exists":            {[]string{"write f x", "mkdir d", "sys mknod s:f" + null, "sys mknod s:d" + null}, "EEXIST EEXIST", "errno errno"},
		"missing-parent":    {[]string{"sys mknod s:no/n" + null, "sys mknod s:no/no/n" + null}, "ENOENT ENOENT", "errno errno"},
		"file-as-parent":    {[]string{"write f x", "sys mknod s:f/n" + null, "sys mknod s:f/../n" + null}, "ENOTDIR ENOTDIR", "errno errno"},
		"empty":             {[]string{"sys mknod s:" + null, "sys mknodat AT_FDCWD s:" + null, "sys mknodat 99 s:" + null}, "ENOENT ENOENT ENOENT", "errno errno errno"},
		"long-path":         {[]string{"sys mknod longpath:4095" + null, "stat x"}, "ok ok", "value"},
		"too-long-path":     {[]string{"sys mknod longpath:4096" + null, "sys mknod longpath:4097" + null, "sys mknod longpath:9000" + null}, "ENAMETOOLONG ENAMETOOLONG ENAMETOOLONG", "errno errno errno"},
		"long-name":         {[]string{"sys mknod long:255" + null}, "ok", "value"},
		"too-long-name":     {[]string{"sys mknod long:256" + null, "sys mknod long:4095" + null, "sys mknod long:4096" + null}, "ENAMETOOLONG ENAMETOOLONG ENAMETOOLONG", "errno errno errno"},
		"pointer":           {[]string{"sys mknod null" + null, "sys mknod bad" + null, "sys mknod protnone" + null, "sys mknod -1" + null}, "EFAULT EFAULT EFAULT EFAULT", "errno errno errno errno"},
		"string-at-edge":    {[]string{"sys mknod edge:name" + null, "sys mknodat 99 edge:name" + null}, "EFAULT EFAULT", "errno errno"},
		"odd-bytes":         {[]string{"sys mknod s:\xff\n\x01é" + null, "stat \xff\n\x01é"}, "ok ok", "value"},
	})
}

func TestDirFD(t *testing.T) {
	newPair(t).run(t, map[string]scripted{
		"directory":       {[]string{"mkdir d", "open d O_RDONLY|O_DIRECTORY", "chdir /", "sys mknodat @0 s:n" + null, "stat /tmp/directory/d/n"}, "ok ok", "value"},
		"o-path":          {[]string{"mkdir d", "open d O_PATH", "sys mknodat @0 s:n" + null, "sys mknodat @0 s:../m" + null, "stat d/n", "stat m"}, "ok ok ok ok", "value value"},
		"cwd":             {[]string{"sys mknodat AT_FDCWD s:n" + null, "stat n"}, "ok ok", "value"},
		"bad":             {[]string{"sys mknodat 99 s:n" + null, "sys mknodat -1 s:n" + null, "sys mknodat -101 s:n" + null, "sys mknodat 0x7fffffff s:n" + null}, "EBADF EBADF EBADF EBADF", "errno errno errno errno"},
		"not-a-directory": {[]string{"write f x", "open f O_RDONLY", "sys mknodat @0 s:n" + null, "sys mknodat 0 s:n" + null, "sys mknodat @0 s:." + null}, "ENOTDIR ENOTDIR ENOTDIR", "errno errno errno"},
		"absolute":        {[]string{"sys mknodat 99 s:/tmp/absolute/n" + null, "sys mknodat 0xdeadbeef s:/tmp/absolute/m" + null, "stat n", "stat m"}, "ok ok ok ok", "value value"},
		"flags-stay":      {[]string{"do mknod s:f S_IFIFO|0600 0", "open f O_RDWR|O_NONBLOCK", "sys mknodat @0 s:n" + null, "sys fcntl @0 F_GETFL"}, "ENOTDIR ok", "errno"},
		"removed":         {[]string{"mkdir d", "open d O_PATH", "do rmdir s:d", "sys mknodat @0 s:n" + null}, "ENOENT", "errno"},
		"removed-cwd":     {[]string{"mkdir d", "chdir d", "do rmdir s:../d", "sys mknod s:n" + null}, "ENOENT", "errno"},
		"in-proc":         {[]string{"open /proc O_PATH", "sys mknodat @0 s:self/cwd/n" + null, "stat n"}, "ok ok", "value"},
	})
}

// TestProcPaths go through what is different for everyone who asks.
func TestProcPaths(t *testing.T) {
	newPair(t).run(t, map[string]scripted{
		"cwd":         {[]string{"sys mknod s:/proc/self/cwd/n" + null, "stat n"}, "ok ok", "value"},
		"root":        {[]string{"sys mknod s:/proc/self/root/tmp/root/n" + null, "stat n"}, "ok ok", "value"},
		"fd":          {[]string{"mkdir d", "open d O_PATH", "sys mknod s:/proc/self/fd/3/n" + null, "stat d/n"}, "ok ok", "value"},
		"fd-missing":  {[]string{"sys mknod s:/proc/self/fd/77/n" + null, "sys mknod s:/proc/self/fd/77" + null}, "ENOENT ENOENT", "errno errno"},
		"fd-itself":   {[]string{"open . O_PATH", "sys mknod s:/proc/self/fd/3" + null}, "EEXIST", "errno"},
		"thread-self": {[]string{"thread", "do unshare CLONE_FS", "mkdir d", "chdir d", "sys mknod s:/proc/thread-self/cwd/n" + null, "stat n", "sys mknod s:/proc/self/cwd/n" + null, "stat ../n"}, "ok ok ok ok", "value value"},
		"init":        {[]string{"sys mknod s:/proc/1/root/tmp/init/n" + null, "stat n", "sys mknod s:/proc/1/cwd/tmp/init/m" + null, "stat m"}, "ok ok ok ok", "value value"},
		"symlinked":   {[]string{"do symlink s:/proc/self s:l", "do symlink s:l/cwd s:k", "sys mknod s:k/n" + null, "stat n"}, "ok ok", "value"},
		"relative":    {[]string{"chdir /proc/self", "sys mknod s:cwd/../n" + null, "sys mknod s:root/tmp/relative/n" + null, "stat /tmp/relative/n"}, "ENOENT ok ok", "errno value"},
		"dot-dot":     {[]string{"sys mknod s:/proc/self/cwd/../dot-dot/n" + null, "stat n"}, "ok ok", "value"},
		"chroot":      {[]string{"mkdir r", "do chmod s:r 0755", "open /proc O_PATH", "chroot r", "sys mknodat @0 s:self/root/n" + null, "stat /n", "sys mknodat @0 s:1/root/tmp/chroot/m" + null, "sys mknodat @0 s:self/cwd/k" + null}, "ok ok ok ok", "value value value"},
		"no-power":    {[]string{"dropcap 1", "dropcap 2", "dropcap 19", "sys mknod s:/proc/self/cwd/n" + null, "stat n", "sys mknod s:/proc/1/root/tmp/no-power/m" + null}, "ok ok EACCES", "value errno"},
	})
}

func TestPlaces(t *testing.T) {
	newPair(t).run(t, map[string]scripted{
		"chroot":             {[]string{"mkdir r", "mkdir r/tmp", "chroot r", "sys mknod s:/n" + null, "sys mknod s:/tmp/../../m" + null, "stat /n", "stat /m", "sys mknod s:k" + null}, "ok ok ok ok ok", "value value value"},
		"chroot-links":       {[]string{"mkdir r", "mkdir r/d", "do symlink s:/d s:r/l", "chroot r", "chdir /", "sys mknod s:l/n" + null, "stat /d/n"}, "ok ok", "value"},
		"mount-namespace":    {[]string{"unshare mount", "mount tmpfs none /mnt 0 mode=755", "sys mknod s:/mnt/n" + null, "stat /mnt/n", "openfile /mnt/n O_RDWR"}, "ok ok ok", "value"},
		"bind-mount":         {[]string{"unshare mount", "mkdir a", "mkdir b", "mount none a b MS_BIND -", "sys mknod s:b/n" + null, "stat a/n", "openfile b/n O_RDWR"}, "ok ok ok", "value"},
		"read-only":          {[]string{"unshare mount", "mkdir a", "write a/old x", "mount none a a MS_BIND -", "mount none none a MS_BIND|MS_REMOUNT|MS_RDONLY -", "sys mknod s:a/n" + null, "sys mknod s:a/old" + null, "sys mknod s:a/n/" + null, "sys mknod s:a/no/n" + null}, "EROFS EEXIST ENOENT ENOENT", "errno errno errno errno"},
		"read-only-by-power": {[]string{"unshare mount", "do mkdir s:a 0700", "write a/old x", "do chown s:a 5 5", "mount none a a MS_BIND -", "mount none none a MS_BIND|MS_REMOUNT|MS_RDONLY -", "sys mknod s:a/n" + null, "sys mknod s:a/old" + null}, "EROFS EEXIST", "errno errno"},
		"thread":             {[]string{"thread", "sys mknod s:n" + null, "stat n"}, "ok ok", "value"},
		"thread-umask":       {[]string{"thread", "do unshare CLONE_FS", "umask 0", "mkdir d", "chdir d", "sys mknod s:n" + null, "stat n"}, "ok ok", "value"},
		"no-leader":          {[]string{"leader-exits", "sys mknod s:n" + null, "stat n", "sys mknod s:/proc/thread-self/cwd/m" + null}, "ok ok ok", "value value"},
		"child":              {[]string{"fork", "sys mknod s:n" + null, "stat n"}, "ok ok", "value"},
	})
}
