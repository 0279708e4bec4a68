package differential

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// statement is a sentence of a plugin's page that says of some differences that they are meant.
type statement struct {
	page     string // a folder of plugins
	sentence string // with single blanks
	covers   func(d *difference) bool
}

// gains are the sentences that say of something that it succeeds where real root is refused. No other covers that.
var gains = []string{
	"After fsmount(2) a context is of no more use",
	"if the path leads there by a descriptor that was opened before, or is the working directory's",
	"takes features that ext2 and ext3 do not have",
	"Its lists leave out what it could not change.",
	"Real root's context holds the superblock until it is closed",
}

var statements = []statement{
	{"mknod", "the device is not listed", func(d *difference) bool {
		return d.of("mknod", "mknodat") && d.gotErrno == "EPERM" && !listedDevice(d.argument("mknod", 2), d.argument("mknodat", 3))
	}},
	{"mknod", "or a node that can be opened needs a mount, and the path leads into another mount namespace", func(d *difference) bool {
		return d.of("mknod", "mknodat") && d.gotErrno == "EPERM" && d.after(ownTmpfs) && d.after("unshare mount")
	}},
	{"mknod", "`rm` and `mv` of the node fail with EBUSY until umount(8), and `ln` fails with EXDEV.", func(d *difference) bool {
		return d.of("unlink", "rename", "rmdir", "link") && d.after(ownTmpfs) && (d.gotErrno == "EBUSY" || d.gotErrno == "EXDEV")
	}},
	{"mknod", "is mounted over the one that was made", func(d *difference) bool { return d.what == "mounts" && d.after(ownTmpfs) }},
	{"setxattr", "the attribute is not listed", func(d *difference) bool {
		return d.of(families["setxattr"].calls...) && !listedAttribute(d.command)
	}},
	{"setxattr", "A caller with CAP_SYS_ADMIN and without CAP_FOWNER can do less than real root without it.", func(d *difference) bool {
		return d.of(families["setxattr"].calls...) && d.lostPrivilege()
	}},
	{"setxattr", "Its lists leave out what it could not change.", func(d *difference) bool {
		return d.of("listxattr", "llistxattr", "flistxattr", "listxattrat") && d.lostPrivilege()
	}},
	{"bpf", "the caller has no CAP_SYS_ADMIN effective in the container's own user namespace", func(d *difference) bool {
		return (d.bpf("8") || d.bpf("9")) && d.refused() && d.lostPrivilege()
	}},
	{"bpf", "Also a NULL attr, one of zeros, or one that cannot be read.", func(d *difference) bool {
		attr, size := d.argument("bpf", 1), d.argument("bpf", 2)
		return d.bpf("5") && d.refused() && (size == "0" || !strings.HasPrefix(attr, "struct:"))
	}},
	{"bpf", "the attach type is another", func(d *difference) bool {
		fields, size := strings.Split(d.argument("bpf", 1), ","), d.argument("bpf", 2)
		return (d.bpf("8") || d.bpf("9")) && (len(fields) > 2 && fields[2] != "4=6" || size == "0" || size == "8")
	}},
	{"bpf", "it would not be attached with BPF_F_ALLOW_MULTI", func(d *difference) bool {
		fields, size := strings.Split(d.argument("bpf", 1), ","), d.argument("bpf", 2)
		return d.bpf("8") && d.refused() && (slices.Contains([]string{"4=0", "4=1"}, fields[3]) || size == "12")
	}},
	{"bpf", "EINVAL also for flags that give programs an order", func(d *difference) bool {
		return d.bpf("8") && d.gotErrno == "EINVAL" && strings.Split(d.argument("bpf", 1), ",")[3] == "4=8"
	}},
	{"bpf", "EFAULT for a query whose ids cannot be written: nothing is written then", func(d *difference) bool {
		return d.bpf("16") && d.gotErrno == "EFAULT" && strings.Contains(d.command, "p=bad")
	}},
	{"bpf", "All other programs go back to the kernel.", func(d *difference) bool {
		fields, size := strings.Split(d.argument("bpf", 1), ","), d.argument("bpf", 2)
		return d.bpf("16") && d.refused() && (len(fields) > 1 && fields[1] != "4=6" || size == "0")
	}},
	{"bpf", "or has what device programs are loaded without", func(d *difference) bool {
		attr := d.argument("bpf", 1)
		return d.bpf("5") && d.refused() && (strings.HasSuffix(attr, ",4=99") || strings.Contains(attr, ",4=0x10,8=0,8=0,4=0,4=0") ||
			strings.HasPrefix(attr, "struct:4=8,"))
	}},
	{"mount", "The mount has nosuid and nodev, which the container cannot take away", func(d *difference) bool {
		flags := d.argument("mount", 3)
		return strings.Contains(flags, "MS_REMOUNT") && strings.Contains(flags, "MS_BIND") && d.gotErrno == "EPERM"
	}},
	{"mount", "a change of the access time flags (noatime) of a mount", func(d *difference) bool {
		return strings.Contains(d.argument("mount", 3), "MS_REMOUNT") && d.changesAtime() && d.gotErrno == "EPERM"
	}},
	{"mount", "an option reaches beyond the filesystem or may harm the host", func(d *difference) bool {
		return d.of("mount") && d.unknownOption() && d.gotErrno == "EPERM"
	}},
	{"mount", "or was made a superblock by fsconfig(2) and has no mount yet", func(d *difference) bool {
		return d.of("mount", "fsconfig") && d.gotErrno == "EBUSY" && d.earlierHas("sys fsconfig")
	}},
	{"mount", "Real root's context holds the superblock until it is closed", func(d *difference) bool {
		again := d.what == "mounts" || d.of("mount") && d.wantErrno == "EBUSY"
		return again && d.earlierHas("fspick") && d.earlierHas("umount2")
	}},
	{"mount", "of which the kernel takes away in a second change what the same context has set in the first", func(d *difference) bool {
		changes := strings.Count(strings.Join(d.earlier, "\n"), " 7 null null 0")
		return d.what == "mounts" && changes > 1 && d.earlierHas("fspick")
	}},
	{"mount", "After fsmount(2) a context is of no more use", func(d *difference) bool {
		return d.of("fsconfig", "fsmount", "read") && d.earlierHas("fsmount")
	}},
	{"mount", "or the caller has no CAP_SYS_ADMIN effective in the container's own user namespace", func(d *difference) bool {
		return d.of("fsconfig", "fsmount", "fspick", "move_mount", "mount", "umount2") && d.lostPrivilege()
	}},
	{"mount", "umount2(2) with MNT_FORCE where the last component of the path is a symbolic link that is followed", func(d *difference) bool {
		target, flags := d.argument("umount2", 0), d.argument("umount2", 1)
		value, err := strconv.ParseInt(flags, 0, 64)
		leads := target == "s:lm" || target == "s:." || strings.HasSuffix(target, "..") || strings.HasSuffix(target, "/fd/3")
		return d.refused() && err == nil && value&unix.MNT_FORCE != 0 && leads
	}},
	{"mount", "for which the kernel asks for privilege over the superblock, is done for what this plugin mounted", func(d *difference) bool {
		value, err := strconv.ParseInt(d.argument("umount2", 1), 0, 64)
		foreign := d.earlierHas("MS_BIND") || d.earlierHas("s:tmpfs") // a mount of the root filesystem, or of the container's own
		return d.refused() && err == nil && value&unix.MNT_FORCE != 0 && foreign
	}},
	{"mount", "those about the superblock are not", func(d *difference) bool {
		return d.of("read") && (d.earlierHas(" 6 null null 0") || d.earlierHas(" 7 null null 0") || d.earlierHas(" 8 null null 0"))
	}},
	{"mount", "if the path leads there by a descriptor that was opened before, or is the working directory's", func(d *difference) bool {
		leads := strings.Contains(d.command, "/fd/") || strings.Contains(d.command, " s:. ")
		return d.of("mount", "move_mount") && d.wantErrno == "EBUSY" && leads
	}},
	{"mount", "ext2 and ext3 with `shift` are mounted by the driver of ext4, under that name", func(d *difference) bool {
		return d.of("read") && (d.earlierHas("fsopen s:ext3") || d.earlierHas("fsopen s:ext2")) // the name is in its messages
	}},
	{"mount", "takes features that ext2 and ext3 do not have", func(d *difference) bool {
		old := strings.Contains(d.argument("mount", 2), "s:ext3") || strings.Contains(d.argument("mount", 2), "s:ext2") ||
			d.of("fsconfig") && (d.earlierHas("fsopen s:ext3") || d.earlierHas("fsopen s:ext2"))
		return d.of("mount", "fsconfig") && old && (d.wantErrno == "EINVAL" || d.wantErrno == "EBUSY")
	}},
	{"mount", "the caller may not open the source", func(d *difference) bool {
		return d.of("mount", "fsconfig") && d.lostPrivilege() && d.gotErrno == "EACCES"
	}},
	{"sched", "a caller without CAP_SYS_NICE effective in the container's own user namespace", func(d *difference) bool {
		return d.of("ioprio_set") && d.refused() && d.after("dropcap 23") // to the kernel CAP_SYS_ADMIN is as good
	}},
	{"sched", "With SCHED_FLAG_KEEP_PARAMS the privilege is not lent", func(d *difference) bool {
		return d.of("sched_setattr") && (strings.Contains(d.command, ",8=0x10,") || strings.Contains(d.command, ",8=0x18,"))
	}},
	{"sched", "groups and users of ioprio_set (IOPRIO_WHO_PGRP, IOPRIO_WHO_USER), are not intercepted", func(d *difference) bool {
		several := d.earlierHas("sys ioprio_set 2 ") || d.earlierHas("sys ioprio_set 3 ") // of which some were set before one was refused
		return d.of("ioprio_set") && d.argument("ioprio_set", 0) != "1" || d.of("ioprio_get") && several
	}},
	{"sched", "A priority with a hint (kernel 6.5) is left to the kernel.", func(d *difference) bool {
		value, err := strconv.ParseInt(d.argument("ioprio_set", 2), 0, 64)
		return d.of("ioprio_set") && err == nil && value&0x1ff8 != 0 && d.refused() // the class is in the bits from 13 on, the level in three
	}},
}

// of reports whether the difference is in what one of these calls returned.
func (d *difference) of(calls ...string) bool {
	words := strings.Fields(d.command)
	return len(words) > 1 && (d.what == "result" || d.what == "complaint") && slices.Contains(calls, words[1])
}

// bpf reports whether the difference is in a call of bpf(2) with this command.
func (d *difference) bpf(command string) bool { return d.of("bpf") && d.argument("bpf", 0) == command }

// refused reports whether the container got EPERM.
func (d *difference) refused() bool {
	return d.gotErrno == "EPERM" || strings.HasSuffix(d.got, "Operation not permitted")
}

// argument is one of the call's, if it has this name.
func (d *difference) argument(call string, i int) string {
	words := strings.Fields(d.command)
	if len(words) < 3+i || words[1] != call {
		return ""
	}
	return words[2+i]
}

// after reports whether the sequence has this command.
func (d *difference) after(command string) bool { return slices.Contains(d.sequence.commands, command) }

// earlierHas reports whether a command before has this text.
func (d *difference) earlierHas(text string) bool {
	return slices.ContainsFunc(d.earlier, func(c string) bool { return strings.Contains(c, text) })
}

// listedDevice reports whether the default of `devices` has one of the numbers, as the kernel takes them from the
// register: the low 32 bits.
func listedDevice(numbers ...string) bool {
	for _, n := range numbers {
		if slices.Contains([]string{"dev:0:0", "dev:5:1", "dev:5:2", "dev:1:7", "dev:1:3", "dev:1:8", "dev:5:0", "dev:1:9", "dev:1:5",
			"0x103", "0x100000103", "0xffffffff00000103"}, n) {
			return true
		}
	}
	return false
}

// listedAttribute reports whether the config lists the attribute that a command names, with the value if it sets one.
func listedAttribute(command string) bool {
	words := strings.Fields(command)
	sets := strings.Contains(words[1], "setxattr")
	switch {
	case slices.Contains(words, "s:trusted.overlay.opaque") && words[1] == "setxattrat":
		return strings.Contains(command, "p=hex:79,4=1,") || strings.Contains(command, "p=hex:78,4=1,")
	case slices.Contains(words, "s:trusted.overlay.opaque") && sets:
		return strings.Contains(command, " hex:79 1 ") || strings.Contains(command, " hex:78 1 ")
	}
	for _, w := range words {
		if slices.Contains([]string{"s:trusted.other", "s:security.other", "s:trusted.", "s:security."}, w) {
			return false
		}
	}
	return true
}

// lostPrivilege reports whether the caller has another filesystem id, or lacks a capability that real root misses less.
func (d *difference) lostPrivilege() bool {
	for _, c := range []string{"do setfsuid 1000", "setuid 1000", "dropcap 1", "dropcap 2", "dropcap 3", "dropcap 21", "dropcap 23",
		"dropcap 27", "unshare user"} {
		if d.after(c) {
			return true
		}
	}
	return false
}

// unknownOption reports whether a call of mount(2) has an option that is not in the plugin's table of ext4.
func (d *difference) unknownOption() bool {
	for _, option := range []string{"dax", "debug", "test_dummy_encryption", "journal_dev", "context", "quota=", "lazytime=", "source="} {
		if strings.Contains(d.command, option) {
			return true
		}
	}
	return false
}

// changesAtime reports whether a remount states or drops access time flags: MS_NOATIME, MS_NODIRATIME, MS_RELATIME,
// MS_STRICTATIME.
func (d *difference) changesAtime() bool {
	for _, flag := range []string{"MS_NOATIME", "2048", "MS_RELATIME", "0x1000000"} {
		if strings.Contains(d.argument("mount", 3), flag) {
			return true
		}
	}
	return false
}

// gained reports whether the container did what real root was refused.
func (d *difference) gained() bool {
	return d.what == "result" && d.gotErrno == "ok" && d.wantErrno != "ok"
}

// statement is the one that covers the difference, or nil.
func (d *difference) statement() *statement {
	page := families[d.sequence.family].page
	for i := range statements {
		s := &statements[i]
		if s.page == page && s.covers(d) && (!d.gained() || slices.Contains(gains, s.sentence)) {
			return s
		}
	}
	return nil
}

// TestStatements wants the pages to have the sentences.
func TestStatements(t *testing.T) {
	for _, s := range statements {
		page := "../../plugins/" + s.page + "/README.md"
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(strings.Fields(string(text)), " "), s.sentence) {
			t.Errorf("%s does not say %q any more", page, s.sentence)
		}
	}
}
