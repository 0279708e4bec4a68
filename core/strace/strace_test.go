package strace_test

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/strace"
	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// neg is a negative int in a register, as the C library puts it there.
func neg(n int32) uint64 { return uint64(uint32(n)) }

func str(arg int, s string) strace.Memory {
	return strace.Memory{Arg: arg, String: true, Data: []byte(s)}
}

func bytes(arg int, fields ...any) strace.Memory {
	var data []byte
	for _, f := range fields {
		data, _ = binary.Append(data, binary.LittleEndian, f)
	}
	return strace.Memory{Arg: arg, Data: data}
}

func TestArguments(t *testing.T) {
	const p = 0x7ffc00001000
	for name, c := range map[string]struct {
		call   string
		args   [6]uint64
		memory []strace.Memory
		want   string
	}{
		"mknodat": {
			"mknodat", [6]uint64{neg(unix.AT_FDCWD), p, 0o20666, 0x103}, []strace.Memory{str(1, "/dev/null")},
			`mknodat(AT_FDCWD, "/dev/null", S_IFCHR|0666, makedev(1, 3))`,
		},
		"registers with garbage above": {
			"mknodat", [6]uint64{0xdead_0000_0005, p, 0xdead_0000_0000 | 0o62644, 0xdead_0000_0103}, []strace.Memory{str(1, "n")},
			`mknodat(5, "n", S_IFBLK|S_ISGID|0644, makedev(1, 3))`,
		},
		"a device number of 32 bits": {"mknod", [6]uint64{p, 0o60640, 0xfff_fff_ff}, []strace.Memory{str(0, "n")},
			`mknod("n", S_IFBLK|0640, makedev(4095, 1048575))`},
		"no device": {"mknod", [6]uint64{p, 0o10644, 7}, []strace.Memory{str(0, "f")}, `mknod("f", S_IFIFO|0644)`},
		"no path": {
			"mknod", [6]uint64{p, 0o20644, 0x103}, []strace.Memory{{Arg: 0, String: true, Errno: unix.EFAULT}},
			`mknod(0x7ffc00001000 /* EFAULT */, S_IFCHR|0644, makedev(1, 3))`,
		},
		"NULL": {"mknod", [6]uint64{0, 0o20644, 0x103}, []strace.Memory{{Arg: 0, Errno: unix.EFAULT}},
			`mknod(NULL, S_IFCHR|0644, makedev(1, 3))`},
		"mount": {
			"mount", [6]uint64{p, p, p, 0xc0ed0000 | unix.MS_RDONLY | unix.MS_NODEV, p},
			[]strace.Memory{str(0, "/dev/sda"), str(1, "/mnt"), str(2, "ext4"), str(4, "data=ordered")},
			`mount("/dev/sda", "/mnt", "ext4", MS_MGC_VAL|MS_RDONLY|MS_NODEV, "data=ordered")`,
		},
		"mount without flags": {
			"mount", [6]uint64{p, p, p, 0, 0}, []strace.Memory{str(0, "none"), str(1, "/mnt"), str(2, "tmpfs"), {Arg: 4}},
			`mount("none", "/mnt", "tmpfs", 0, NULL)`,
		},
		"unknown flags": {"mount", [6]uint64{0, 0, 0, 1<<40 | unix.MS_REMOUNT}, nil, `mount(NULL, NULL, NULL, MS_REMOUNT|0x10000000000, NULL)`},
		"fsopen":        {"fsopen", [6]uint64{p, 1}, []strace.Memory{str(0, "ext4")}, `fsopen("ext4", FSOPEN_CLOEXEC)`},
		"fspick": {"fspick", [6]uint64{neg(-100), p, 8 | 1}, []strace.Memory{str(1, "")},
			`fspick(AT_FDCWD, "", FSPICK_CLOEXEC|FSPICK_EMPTY_PATH)`},
		"fsconfig": {
			"fsconfig", [6]uint64{3, 1, p, p, 0}, []strace.Memory{str(2, "source"), str(3, "/dev/sda")},
			`fsconfig(3, FSCONFIG_SET_STRING, "source", "/dev/sda", 0)`,
		},
		"fsconfig creates": {"fsconfig", [6]uint64{3, 6}, nil, `fsconfig(3, FSCONFIG_CMD_CREATE, NULL, NULL, 0)`},
		"fsconfig with a path": {
			"fsconfig", [6]uint64{3, 3, p, p, neg(-100)}, []strace.Memory{str(2, "source"), str(3, "sda")},
			`fsconfig(3, FSCONFIG_SET_PATH, "source", "sda", AT_FDCWD)`,
		},
		"fsmount": {"fsmount", [6]uint64{3, 1, 2 | 4}, nil, `fsmount(3, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV)`},
		"move_mount": {
			"move_mount", [6]uint64{4, p, neg(-100), p, 4}, []strace.Memory{str(1, ""), str(3, "/mnt")},
			`move_mount(4, "", AT_FDCWD, "/mnt", MOVE_MOUNT_F_EMPTY_PATH)`,
		},
		"setxattr": {
			"setxattr", [6]uint64{p, p, p, 1, 1}, []strace.Memory{str(1, "trusted.overlay.opaque"), str(0, "/up/d"), bytes(2, "y"[0])},
			`setxattr("/up/d", "trusted.overlay.opaque", "y", 1, XATTR_CREATE)`,
		},
		"setxattrat": {
			"setxattrat", [6]uint64{5, p, 0x1000, p, p, 16},
			[]strace.Memory{str(1, ""), str(3, "trusted.a"), bytes(4, uint64(p), uint32(7), uint32(2))},
			`setxattrat(5, "", AT_EMPTY_PATH, "trusted.a", {value=0x7ffc00001000, size=7, flags=XATTR_REPLACE}, 16)`,
		},
		"sched_setscheduler": {
			"sched_setscheduler", [6]uint64{0, 0x40000001, p}, []strace.Memory{bytes(2, int32(50))},
			`sched_setscheduler(0, SCHED_RESET_ON_FORK|SCHED_FIFO, [50])`,
		},
		"sched_setparam": {"sched_setparam", [6]uint64{7, p}, []strace.Memory{bytes(1, int32(-1))}, `sched_setparam(7, [-1])`},
		"sched_setattr": {
			"sched_setattr", [6]uint64{7, p},
			[]strace.Memory{bytes(1, uint32(48), uint32(6), uint64(1), int32(-20), uint32(0), uint64(10), uint64(20), uint64(30))},
			`sched_setattr(7, {size=48, sched_policy=SCHED_DEADLINE, sched_flags=SCHED_FLAG_RESET_ON_FORK, sched_nice=-20, sched_priority=0, ` +
				`sched_runtime=10, sched_deadline=20, sched_period=30}, 0)`,
		},
		"setpriority": {"setpriority", [6]uint64{0, 9, neg(-5)}, nil, `setpriority(PRIO_PROCESS, 9, -5)`},
		"ioprio_set": {"ioprio_set", [6]uint64{1, 9, 1<<13 | 4}, nil,
			`ioprio_set(IOPRIO_WHO_PROCESS, 9, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_RT, 4))`},
		"sysinfo": {"sysinfo", [6]uint64{p}, nil, `sysinfo(0x7ffc00001000)`},
		"bpf loads": {
			"bpf", [6]uint64{5, p, 72},
			[]strace.Memory{bytes(1, uint32(15), uint32(2), uint64(p), uint64(p+1), uint32(1), uint32(64), uint64(p+2),
				uint32(0), uint32(0), [16]byte{'d', 'e', 'v'}, uint32(0), uint32(6))},
			`bpf(BPF_PROG_LOAD, {prog_type=BPF_PROG_TYPE_CGROUP_DEVICE, insn_cnt=2, insns=0x7ffc00001000, license=0x7ffc00001001, log_level=1, ` +
				`log_size=64, log_buf=0x7ffc00001002, prog_flags=0, prog_name="dev", expected_attach_type=BPF_CGROUP_DEVICE}, 72)`,
		},
		"bpf attaches": {
			"bpf", [6]uint64{8, p, 16}, []strace.Memory{bytes(1, uint32(3), uint32(4), uint32(6), uint32(2))},
			`bpf(BPF_PROG_ATTACH, {target_fd=3, attach_bpf_fd=4, attach_type=BPF_CGROUP_DEVICE, ` +
				`attach_flags=BPF_F_ALLOW_MULTI, replace_bpf_fd=0}, 16)`,
		},
		"bpf asks": {
			"bpf", [6]uint64{16, p, 8}, []strace.Memory{bytes(1, uint32(3), uint32(6))},
			`bpf(BPF_PROG_QUERY, {query={target_fd=3, attach_type=BPF_CGROUP_DEVICE, query_flags=0, prog_ids=0, prog_cnt=0}}, 8)`,
		},
		"bpf with a command that is not known": {
			"bpf", [6]uint64{0x10063, p, 1}, []strace.Memory{bytes(1, uint8(7))}, `bpf(0x63|0x10000, "\7", 1)`,
		},
		"a long string": {"fsopen", [6]uint64{p, 0}, []strace.Memory{str(0, strings.Repeat("x", 33))},
			`fsopen("` + strings.Repeat("x", 32) + `"..., 0)`},
		"a long path": {
			"removexattr", [6]uint64{p, p}, []strace.Memory{str(0, strings.Repeat("x", 257)), str(1, "a")},
			`removexattr("` + strings.Repeat("x", 256) + `"..., "a")`,
		},
		"hostile memory": {
			"removexattr", [6]uint64{p, p}, []strace.Memory{str(0, "\x1b]0;owned\a\x001\r\n\"\\\x80\u202e\u009b"), str(1, "a")},
			`removexattr("\33]0;owned\7\0001\r\n\"\\\200\342\200\256\302\233", "a")`,
		},
		"neither known nor declared": {"quotactl", [6]uint64{1, 2, 0, 0, 5, p}, nil, `quotactl(0x1, 0x2, NULL, NULL, 0x5, 0x7ffc00001000)`},
	} {
		t.Run(name, func(t *testing.T) {
			call := strace.Call{TID: 7, Arch: native, Syscall: c.call, Args: c.args, Memory: c.memory, Kind: audit.Return}
			want := "[pid 7] " + c.want + " = 0 <0.000000>"
			if got := call.String(); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestResults(t *testing.T) {
	for name, c := range map[string]struct {
		call strace.Call
		want string
	}{
		"a value":      {strace.Call{Kind: audit.Return, Value: 5, Plugin: "mine"}, `= 5 [mine] <0.000080>`},
		"a descriptor": {strace.Call{Kind: audit.AddFD, Value: 3, Plugin: "mine"}, `= 3 [mine] <0.000080>`},
		"an errno":     {strace.Call{Kind: audit.Errno, Errno: unix.EPERM}, `= -1 EPERM (Operation not permitted) <0.000080>`},
		"a reason": {
			strace.Call{Kind: audit.Errno, Errno: unix.EPERM, Plugin: "mknod", Reason: `c 1:4 is not listed`},
			`= -1 EPERM (Operation not permitted) [mknod: c 1:4 is not listed] <0.000080>`,
		},
		"an errno without a name": {strace.Call{Kind: audit.Errno, Errno: 4000}, `= -1 (errno 4000) <0.000080>`},
		"left to the kernel":      {strace.Call{Kind: audit.Continue, Plugin: "mine"}, `= ? (continue) [mine] <0.000080>`},
		"a caller that is gone":   {strace.Call{Kind: audit.Gone}, `= ? (gone) <0.000080>`},
		"a call under way":        {strace.Call{}, `<unfinished ...>`},
		"a hostile reason": {
			strace.Call{Kind: audit.Continue, Plugin: "x", Reason: "größer\x1b[2J\n\u202eevil\xff\u2028"},
			`= ? (continue) [x: größer\33[2J\n\342\200\256evil\377\342\200\250] <0.000080>`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.call.TID, c.call.Arch, c.call.Syscall, c.call.Duration = 7, native, "sysinfo", 80*time.Microsecond
			want := "[pid 7] sysinfo(NULL) " + c.want
			if got := c.call.String(); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestThread(t *testing.T) {
	c := strace.Call{TID: 7, Comm: "a\x1b[2J", Arch: unix.AUDIT_ARCH_I386, Syscall: "sysinfo"}
	if got, want := c.String(), `[pid 7<a\33[2J> i386] sysinfo(NULL) <unfinished ...>`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A call of another plugin is shown by its declaration.
func TestOf(t *testing.T) {
	c := strace.Of(audit.Record{
		Syscall: "quotactl",
		Declared: &wire.Syscall{
			Arguments: []*wire.Argument{
				{Name: "cmd"}, {Name: "special"}, {Name: "id", Format: wire.Argument_FORMAT_INT}, {Name: "addr"},
				{Name: "mode", Format: wire.Argument_FORMAT_MODE}, {Name: "dev", Format: wire.Argument_FORMAT_DEV},
			},
			Reads: []*wire.Read{
				{Arg: 1, Kind: &wire.Read_String_{String_: &wire.StringRead{Max: 10}}},
				{Arg: 3, Kind: &wire.Read_Struct{Struct: &wire.StructRead{Size: 4}}},
			},
		},
		Reads:        []*wire.Memory{{Data: []byte("/dev/sda")}, {Errno: int32(unix.EFAULT)}},
		Notification: &notify.Notification{TID: 9, Arch: native, Args: [6]uint64{0x80, 0x1000, neg(-1), 0x2000, 0o100600, 0x801}},
		Outcome:      audit.Outcome{Plugin: "quota", Kind: audit.Errno, Errno: unix.ESRCH},
		Duration:     time.Millisecond,
	})
	want := `[pid 9] quotactl(cmd=0x80, special="/dev/sda", id=-1, addr=0x2000 /* EFAULT */, mode=S_IFREG|0600, dev=makedev(8, 1))` +
		` = -1 ESRCH (No such process) [quota] <0.001000>`
	if got := c.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// maxLine is far above what a line has of arguments that are sensible, and below what would flood a terminal.
const maxLine = 16 << 10

// Whatever a call has, it is shown on one line that a terminal can be given.
func FuzzString(f *testing.F) {
	for _, name := range []string{"mknodat", "mount", "fsconfig", "setxattrat", "sched_setattr", "bpf", "ioprio_set", "quotactl"} {
		f.Add(name, uint64(5), uint64(1), []byte("/dev/null"), []byte{1, 2, 3, 4, 5, 6, 7, 8}, int64(0), uint16(1), "reason", "arg", int32(2))
	}
	f.Fuzz(func(t *testing.T, name string, a, b uint64, one, two []byte, value int64, errno uint16, reason, argument string, format int32) {
		c := strace.Call{
			TID: uint32(a), Comm: argument, Arch: uint32(b), Syscall: name, Args: [6]uint64{a, b, a, b, a, b},
			Declared: []strace.Argument{{Name: argument, Format: wire.Argument_Format(format)}, {Name: argument}},
			Plugin:   argument, Kind: audit.Kind(argument), Value: value, Errno: unix.Errno(errno), Reason: reason, Duration: time.Duration(value),
		}
		for i := range 6 {
			data := one
			if i%2 == 1 {
				data = two
			}
			c.Memory = append(c.Memory, strace.Memory{Arg: int(int8(a)) + i, Data: data, String: a%2 == 0, Errno: unix.Errno(errno % 3 * 14)})
		}
		for _, kind := range []audit.Kind{c.Kind, audit.Return, audit.Errno, audit.Continue} {
			c.Kind = kind
			line := c.String()
			if !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("a line with what is not printable: %q", line)
			}
			if len(line) > maxLine {
				t.Fatalf("a line of %d bytes", len(line))
			}
		}
	})
}
