package differential

import (
	"strconv"
	"strings"
)

// Generators of the families that are about files.

// oddPath is a path that is wrong in some way, for a kernel that reads it from memory.
func oddPath(d dice) string {
	return d.of("null", "bad", "protnone", "s:", "edge:abc", "long:255", "long:256", "longpath:4095", "longpath:4096")
}

// path leads to the file of the sequence's folder by one of many ways. Descriptors 3 to 5 are of folders.
func path(d dice, base string) string {
	switch d.IntN(14) {
	case 0:
		return "s:/t/s/" + strings.ReplaceAll(base, "..", ".")
	case 1:
		return "s:/proc/" + d.of("self", "thread-self") + "/cwd/" + strings.ReplaceAll(base, "..", ".")
	case 2:
		return "s:/proc/self/root/t/s/" + strings.ReplaceAll(base, "..", ".")
	case 3:
		return "s:/proc/self/fd/" + strconv.Itoa(3+d.IntN(4)) + "/" + strings.ReplaceAll(base, "..", ".")
	case 4:
		return oddPath(d)
	case 5:
		return "s:./" + base + d.of("", "/", "//", "/.")
	case 6:
		return "s:" + base + "/"
	case 7:
		return "s:/proc/self/fd/" + strconv.Itoa(3+d.IntN(4))
	}
	return "s:" + base
}

// change is a call that changes the files around.
func change(d dice, path func() string) string {
	switch d.IntN(8) {
	case 0:
		return "umask " + d.of("0", "022", "077", "0777", "0137")
	case 1:
		return "sys unlink " + path()
	case 2:
		return "sys rename " + path() + " " + path()
	case 3:
		return "sys symlink s:n " + path()
	case 4:
		return "sys mkdir " + path() + " 0755"
	case 5:
		return "sys chmod " + path() + " " + d.of("0700", "0", "02777", "01777", "0555")
	case 6:
		return "sys " + d.of("chown", "lchown") + " " + path() + " " + d.of("0", "5", "1000") + " " + d.of("0", "7", "1000")
	}
	return "sys link " + path() + " " + path()
}

// ownTmpfs mounts a tmpfs of the container's own, whose superblock belongs to its user namespace.
const ownTmpfs = "sys mount s:none s:dir s:tmpfs 0 null"

func mknodSequence(d dice) []string {
	prepared := []string{"mkdir dir"}
	if d.one(5) {
		prepared = append(prepared, ownTmpfs, "mkdir dir/sub")
	}
	prepared = append(prepared, "do symlink s:dir s:dlink", "do symlink s:gone s:dangling", "do symlink s:loop s:loop",
		"do symlink s:a s:link", "mkdir sgid", "do chown s:sgid 5 7", "do chmod s:sgid 02775", "mkdir sticky", "do chmod s:sticky 01777",
		"mkdir ro", "do chmod s:ro 0555", "mkdir other", "do chown s:other 1000 1000", "do chmod s:other 0700", "mkdir up",
		"open dir O_RDONLY|O_DIRECTORY", "open . O_PATH|O_DIRECTORY", "open dir O_PATH")
	at := func() string {
		return path(d, d.of("a", "b", "c", "n", "dir", "dir/x", "dir/y", "link", "dangling", "dlink/x", "dlink/n", "loop", "up/../n", "dir/..",
			".", "dir/", "n/", "missing/x", "dir/./z", "ro/x", "sgid/n", "sticky/n", "sgid/m", "other/x"))
	}
	return d.random(prepared, func() []string {
		if d.one(4) {
			return []string{change(d, at)}
		}
		kind := d.often("S_IFCHR", "S_IFBLK", "S_IFIFO", "S_IFREG", "S_IFSOCK", "S_IFDIR", "0", "0170000", "0xf0000000|S_IFCHR",
			"0x10000|S_IFCHR", "S_IFCHR|S_ISUID", "S_IFCHR|S_ISGID", "S_IFCHR|S_ISVTX")
		mode := kind + "|" + d.of("0", "0666", "0644", "0777", "0600", "06755", "01000", "02070")
		device := d.often("dev:"+d.of("0:0", "5:1", "5:2", "1:7", "1:3", "1:8", "5:0", "1:9", "1:5"), "dev:1:1", "0x100000103",
			"0xffffffff00000103",
			"0x103", "-1")
		if kind == "S_IFBLK" {
			device = "dev:0:0"
		}
		if d.one(2) {
			return []string{"sys mknod " + at() + " " + mode + " " + device}
		}
		dirfd := d.often("AT_FDCWD", "@0", "@1", "@2", "-1", "999", "-200", "0", "0x1ffffff9c")
		return []string{"sys mknodat " + dirfd + " " + at() + " " + mode + " " + device}
	})
}

func setxattrSequence(d dice) []string {
	prepared := []string{"mkdir dir", "write file text", "do mknodat AT_FDCWD s:fifo S_IFIFO|0644 0", "do symlink s:dir s:dlink",
		"do symlink s:file s:flink", "do symlink s:gone s:dangling", "mkdir ro", "do chmod s:ro 0555", "write wo text", "do chmod s:wo 0200",
		"mkdir sticky", "do chmod s:sticky 01777", "write other text", "do chown s:other 1000 1000",
		"open dir O_RDONLY|O_DIRECTORY", "open file O_RDWR", "open file O_RDONLY", "open dir O_PATH", "open flink O_PATH|O_NOFOLLOW",
		"open wo O_WRONLY"}
	at := func() string {
		return path(d, d.of("dir", "file", "fifo", "dlink", "flink", "dangling", "ro", "wo", "sticky", ".", "gone", "dir/", "file/", "dlink/",
			"dlink/.", "other"))
	}
	name := func() string {
		if d.one(8) {
			return d.of("null", "bad", "protnone", "s:", "edge:trusted.overlay.opaque", "long:255", "long:256", "s:trusted.", "s:trusted", "s:user.",
				"s:foo.bar", "s:system.foo", "s:system.posix_acl_access", "s:trusted.other", "s:security.other", "s:trusted.list.")
		}
		return "s:" + d.often("trusted.overlay.opaque", "trusted.list.a", "trusted.one", "security.NTACL", "user.x", "user.overlay.opaque")
	}
	value := func() (string, string) {
		switch d.IntN(10) {
		case 0:
			return d.of("null", "bad", "protnone"), d.of("0", "1", "2", "65536", "65537")
		case 1:
			return "hex:79", d.of("0x100000001", "-1", "65537", "0xffffffff")
		case 2:
			return "hex:78", "1"
		case 3:
			return "hex:0102030405", d.of("0", "2", "5")
		}
		return "hex:79", "1"
	}
	fd := func() string { return d.often(d.of("@0", "@1", "@2", "@3", "@4", "@5"), "-1", "999", "AT_FDCWD") }
	return d.random(prepared, func() []string {
		flags := d.often("0", "XATTR_CREATE", "XATTR_REPLACE", "3", "4", "0x100000000", "-1")
		size := d.of("0", "1", "2", "64", "64", "64", "-1", "0x100000001")
		v, n := value()
		at3 := d.often("0", "AT_EMPTY_PATH", "AT_SYMLINK_NOFOLLOW", "AT_EMPTY_PATH|AT_SYMLINK_NOFOLLOW", "0x80000000", "1")
		buffer := d.often("buf:64", "null", "bad", "protnone")
		switch d.IntN(18) {
		case 0, 1, 2, 3:
			return []string{"sys " + d.of("setxattr", "lsetxattr") + " " + at() + " " + name() + " " + v + " " + n + " " + flags}
		case 4, 5:
			return []string{"sys fsetxattr " + fd() + " " + name() + " " + v + " " + n + " " + flags}
		case 6:
			return []string{"sys " + d.of("getxattr", "lgetxattr") + " " + at() + " " + name() + " " + buffer + " " + size}
		case 7:
			return []string{"sys fgetxattr " + fd() + " " + name() + " " + buffer + " " + size}
		case 8:
			return []string{"sys " + d.of("removexattr", "lremovexattr") + " " + at() + " " + name()}
		case 9:
			return []string{"sys fremovexattr " + fd() + " " + name()}
		case 10:
			return []string{"sys " + d.of("listxattr", "llistxattr") + " " + at() + " " + buffer + " " + size}
		case 11:
			return []string{"sys flistxattr " + fd() + " " + buffer + " " + size}
		case 12, 13:
			args := "struct:p=" + v + ",4=" + n + ",4=" + d.often("0", "XATTR_CREATE", "XATTR_REPLACE", "3", "8")
			return []string{"sys setxattrat " + fd() + " " + at() + " " + at3 + " " + name() + " " + args + " " + d.often("16", "15", "0",
				"17", "4096",
				"5000")}
		case 14:
			return []string{"sys getxattrat " + fd() + " " + at() + " " + at3 + " " + name() + " struct:p=buf:64,4=" + d.of("0", "1", "64") + ",4=" +
				d.often("0", "1") + " " + d.often("16", "15", "0", "17")}
		case 15:
			return []string{"sys removexattrat " + fd() + " " + at() + " " + at3 + " " + name()}
		case 16:
			return []string{"sys listxattrat " + fd() + " " + at() + " " + at3 + " " + buffer + " " + size}
		}
		return []string{change(d, at)}
	})
}

// mount

// mountFolder is what sequences of mounts begin with.
var mountFolder = []string{"mkdir m", "mkdir n", "mkdir m/below", "write f text", "do symlink s:m s:lm", "do symlink s:/disk s:disklink",
	"do symlink s:loop s:loop", "open m O_PATH", "open /disk O_PATH", "open . O_PATH"}

func mountFlags(d dice) string {
	return d.often(d.some("MS_RDONLY", "MS_NOSUID", "MS_NODEV", "MS_NOEXEC", "MS_SILENT", "16", "128", "256", "2048", "MS_NOATIME",
		"MS_RELATIME",
		"0x1000000", "0x2000000", "MS_MGC_VAL", "MS_REC"),
		"MS_BIND", "MS_BIND|MS_REC", "MS_MOVE", "MS_PRIVATE", "MS_SHARED", "MS_SLAVE", "0x80000000", "0x10000", "0x400000000",
		"MS_PRIVATE|MS_REC",
		"MS_BIND|MS_RDONLY", "64", "0x800000", "0x20000")
}

func mountData(d dice) string {
	if d.one(2) {
		return "null"
	}
	return d.of("s:", "s:ro", "s:rw", "s:commit=7", "s:data=ordered", "s:data=journal", "s:data=writeback", "s:nonsense", "s:errors=continue",
		"s:errors=remount-ro", "bad", "protnone", "s:acl", "s:noacl", "s:barrier=0", "s:sync", "s:,,,", "s:ro,rw",
		"s:nodelalloc,commit=3", "s:commit=x", "s:commit", "s:data", "s:noload", "s:norecovery", "s:resuid=0", "s:resgid=7",
		"s:stripe=4", "s:sb=1",
		"s:journal_dev=1", "s:lazytime", "s:dirsync", "s:mand", "s:noatime", "s:user_xattr", "s:nouser_xattr", "s:discard", "s:grpid",
		"s:min_batch_time=3",
		"s:source=/disk", "s:=x", "s:ro=1", "long:5000", "s:context=x", "s:inode_readahead_blks=8", "s:inode_readahead_blks=3", "s:dax",
		"s:usrquota", "s:quota",
		"s:nombcache", "s:prjquota", "s:debug", "s:init_itable=1", "s:test_dummy_encryption", "s:block_validity")
}

func mountTarget(d dice) string {
	return d.often("s:m", "s:n", "s:m/", "s:lm", "s:/t/s/m", "s:m/below", "s:f", "s:nowhere", "s:loop", "s:.", "s:n/../m", "s:/proc/self/fd/3",
		"s:/proc/self/fd/5/m", "s:/proc/self/cwd/m", "s:", "bad", "null", "edge:m", "protnone", "longpath:4096", "s:m/lost+found")
}

// mountCommand is one call of a sequence about mounts.
func mountCommand(d dice) []string {
	switch d.IntN(12) {
	case 0, 1, 2, 3:
		source := d.often("s:/disk", "s:disklink", "s:/proc/self/fd/4", "s:f", "s:m", "s:nowhere", "null", "s:", "bad", "edge:/disk",
			"protnone", "s:/disk/",
			"s:none", "longpath:4097", "long:300", "s:/dev/null", "s:loop")
		kind := d.often("s:ext4", "s:tmpfs", "s:ext3", "s:ext2", "s:xfs", "s:squashfs", "s:ext4.x",
			"null", "bad", "s:", "s:nonesuch", "edge:ext4", "long:5000")
		data := mountData(d)
		if kind == "s:tmpfs" {
			data = d.often("null", "s:size=1m", "s:mode=700", "s:nonsense", "s:ro")
		}
		target, flags := mountTarget(d), mountFlags(d)
		if source == "s:/dev/null" && strings.Contains(flags, "MS_BIND") {
			source = "s:f" // that node has another owner in a container
		}
		return []string{"sys mount " + source + " " + target + " " + kind + " " + flags + " " + data}
	case 4, 5, 6:
		flags := "MS_REMOUNT|" + d.often(mountFlags(d), "MS_BIND|MS_RDONLY", "MS_BIND", "MS_BIND|MS_NOEXEC", "MS_BIND|MS_NODEV|MS_NOSUID")
		return []string{"sys mount " + d.often("null", "s:none", "s:/disk", "bad") + " " + mountTarget(d) + " " + d.often("null",
			"s:ext4", "bad") + " " +
			flags + " " + mountData(d)}
	case 7, 8:
		return []string{"sys umount2 " + mountTarget(d) + " " + d.often(d.of("0", "MNT_DETACH"), "1", "3", "4", "5", "8", "9", "0x10",
			"0x100000001")}
	case 9:
		return []string{"openfile " + d.of("m/x", "n/x", "m/below/x", "lm/y") + " O_CREAT|O_WRONLY"}
	case 10:
		return []string{"openfile " + d.of("m/lost+found", "n/lost+found", "m/below") + " O_PATH"}
	}
	return []string{change(d, func() string { return "s:" + d.of("m", "n", "m/x", "n/x", "f", "m/below", "m/lost+found", "lm") })}
}

func mountSequence(d dice) []string {
	prepared := append([]string{}, mountFolder...)
	if d.one(2) {
		prepared = append(prepared, "sys mount s:/disk s:m s:ext4 "+d.often("0", "MS_RDONLY", "MS_NOATIME")+" null")
	}
	return d.random(prepared, func() []string { return mountCommand(d) })
}

// Commands of fsconfig(2).
const (
	setFlag     = "0"
	setString   = "1"
	create      = "6"
	reconfigure = "7"
)

func fsopenSequence(d dice) []string {
	prepared := append([]string{}, mountFolder...) // @0 to @2
	context, kept := "@3", 3
	if d.one(4) {
		prepared = append(prepared, "sys mount s:/disk s:m s:ext4 0 null", "fd fspick "+d.often("AT_FDCWD s:m 1", "@2 s:m 0", "@0 s: 8",
			"AT_FDCWD s:n 0"))
	} else {
		prepared = append(prepared, "fd fsopen "+d.often("s:ext4", "s:tmpfs", "s:ext3", "s:ext2", "s:xfs", "s:squashfs")+" "+d.of("0", "1"))
		if !d.one(6) {
			prepared = append(prepared, "sys fsconfig @3 1 s:source s:/disk 0")
		}
	}
	all := d.random(prepared, func() []string {
		switch d.IntN(12) {
		case 0, 1, 2, 3:
			return []string{"sys fsconfig " + d.often(context, "99", "-1", "@1", "@0") + " " + fsconfigArguments(d)}
		case 4, 5:
			return []string{"sys fsconfig " + context + " " + d.often(create, reconfigure, "8") + " null null 0"}
		case 6:
			kept++
			mount := "@" + strconv.Itoa(kept)
			return []string{"fd fsmount " + context + " " + d.of("0", "1") + " " + d.often("0", "1", "2", "4", "8", "0x10", "0x20", "0x80",
				"0x200000", "0x8f"),
				"sys move_mount " + mount + " s: AT_FDCWD " + mountTarget(d) + " " + d.often("4", "0x14", "0x44", "0x54", "0", "0x204",
					"0x104", "0x80000004")}
		case 7:
			return []string{"sys fsmount " + d.often(context, "@0", "99") + " " + d.often("0", "1", "2") + " " + d.often("0", "0x30",
				"0x100000", "0x7f")}
		case 8:
			return []string{"sys fspick " + d.often("AT_FDCWD", "@0", "@2", "99") + " " + mountTarget(d) + " " + d.often("0", "1", "2", "8",
				"9", "0x10", "-1")}
		case 9:
			return []string{"sys fsopen " + d.often("s:ext4", "s:tmpfs", "s:ext3", "s:squashfs", "s:nonesuch",
				"bad", "null", "s:", "protnone", "edge:ext4") + " " +
				d.often("0", "1", "2")}
		case 10:
			return []string{"sys read " + context + " buf:200 200"}
		}
		return mountCommand(d)
	})
	return all
}

func fsconfigArguments(d dice) string {
	key := func() string {
		if d.one(6) {
			return d.of("null", "bad", "protnone", "long:255", "long:256", "s:", "edge:ro")
		}
		return "s:" + d.of("ro", "rw", "source", "data", "commit", "nonsense", "errors", "sync", "lazytime", "acl", "noload", "resuid",
			"mand", "dirsync",
			"async", "barrier", "stripe", "size", "mode")
	}
	switch d.IntN(8) {
	case 0, 1:
		return setFlag + " " + key() + " " + d.often("null", "s:x") + " " + d.often("0", "1")
	case 2, 3, 4:
		return setString + " " + key() + " " + d.often("s:"+d.of("7", "ordered", "continue", "0", "x", "/disk", "remount-ro",
			"writeback", "700", "1m"), "null", "bad",
			"long:255", "long:256", "s:", "protnone") + " " + d.often("0", "1")
	}
	return d.of("2", "3", "4", "5", "6", "7", "8", "9", "99", "-1") + " " + key() + " " + d.of("null", "s:x", "s:/disk", "s:", "bad",
		"hex:0102") + " " +
		d.of("0", "1", "3", "-1", "AT_FDCWD", "99", "@0")
}
