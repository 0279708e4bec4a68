package differential

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// family makes sequences of calls that one plugin is about.
type family struct {
	name     string
	page     string   // of the plugin
	wanted   string   // of the place: see testdata/place.c
	calls    []string // that its sequences may make beside commonCalls
	generate func(d dice) []string
	mask     func(s sequence, command string, r *result) // takes out what is documented to differ; nil: nothing
}

var families = map[string]*family{
	"mknod": {
		page: "mknod", wanted: "-", generate: mknodSequence, calls: []string{"mknod", "mknodat", "mount"},
	},
	"setxattr": {
		page: "setxattr", wanted: "x", generate: setxattrSequence,
		calls: strings.Fields(`mknodat setxattr lsetxattr fsetxattr setxattrat getxattr lgetxattr fgetxattr getxattrat listxattr llistxattr
			flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat`),
	},
	"sched": {
		page: "sched", wanted: "-", generate: schedSequence,
		calls: strings.Fields(`sched_setscheduler sched_setparam sched_setattr sched_getscheduler sched_getparam sched_getattr
			setpriority getpriority ioprio_set ioprio_get`),
	},
	"mount": {
		page: "mount", wanted: "d", generate: mountSequence, calls: []string{"mount", "umount2", "mknodat"},
	},
	"fsopen": {
		page: "mount", wanted: "d", generate: fsopenSequence,
		calls: []string{"mount", "umount2", "fsopen", "fsconfig", "fsmount", "fspick", "move_mount"},
	},
	"bpf": {
		page: "bpf", wanted: "c", generate: bpfSequence, calls: []string{"bpf"}, mask: maskPrograms,
	},
	"sysinfo": {
		page: "sysinfo", wanted: "-", generate: sysinfoSequence, calls: []string{"sysinfo"}, mask: maskSysinfo,
	},
}

func init() {
	for name, f := range families {
		f.name = name
	}
}

// mostCalls is how many random commands a sequence has, after those that prepare files and descriptors.
const mostCalls = 6

// dice are random decisions.
type dice struct{ *rand.Rand }

func (d dice) of(list ...string) string { return list[d.IntN(len(list))] }
func (d dice) one(in int) bool          { return d.IntN(in) == 0 }

// often is the first word in most cases, and else one of the others.
func (d dice) often(first string, others ...string) string {
	if d.IntN(4) > 0 {
		return first
	}
	return d.of(others...)
}

// mostly is the first word in all but a few cases: for what a page says that it differs, after which a sequence is not
// compared any more.
func (d dice) mostly(first string, others ...string) string {
	if d.IntN(20) > 0 {
		return first
	}
	return d.of(others...)
}

// some joins a few of the flags.
func (d dice) some(flags ...string) string {
	chosen := []string{}
	for range d.IntN(4) {
		chosen = append(chosen, d.of(flags...))
	}
	if len(chosen) == 0 {
		return "0"
	}
	return strings.Join(chosen, "|")
}

// random appends up to mostCalls commands, and among them, now and then, one that makes the caller another: a second
// thread, a child, an ordinary user, one without a capability, one in a namespace of its own.
func (d dice) random(prepared []string, command func() []string) []string {
	all := prepared
	threads := slices.Contains(prepared, "thread") || slices.Contains(prepared, "leader-exits")
	for range 1 + d.IntN(mostCalls) {
		if d.one(12) {
			change := d.of("thread", "leader-exits", "fork", "unshare user", "unshare mount", "setuid 1000", "setgid 7",
				"setgroups 7,9", "dropcap 1", "dropcap 2", "dropcap 3", "dropcap 4", "dropcap 21", "dropcap 23", "dropcap 27",
				"do setfsuid 1000", "do setfsgid 7", "sys unshare CLONE_FS")
			// The first thread goes on where the second one exits: there is one more at most.
			if thread := change == "thread" || change == "leader-exits"; !thread || !threads {
				all = append(all, change)
				threads = threads || thread
			}
		}
		all = append(all, command()...)
	}
	if slices.Contains(all, "leader-exits") {
		// It exits sometime: nothing may depend on when.
		for i := range all {
			all[i] = strings.ReplaceAll(all[i], "/proc/self/", "/proc/thread-self/")
		}
	}
	return all
}

// sysinfo

func sysinfoSequence(d dice) []string {
	return d.random(nil, func() []string {
		size := d.IntN(180)
		return []string{"sys sysinfo " + d.of("null", "bad", "protnone", "buf:112", fmt.Sprintf("buf:%d", 112+size),
			"edge:"+strings.Repeat("a", 1+size), "edge:"+strings.Repeat("a", 64), "edge:"+strings.Repeat("a", 112), "-1", "0x7fffffffffff")}
	})
}

// maskSysinfo takes out what the container has in place of the host's: all fields up to procs (struct sysinfo,
// linux/sysinfo.h).
func maskSysinfo(s sequence, _ string, r *result) {
	const upTo64, upTo32 = 82, 42
	upTo := upTo64
	if s.bits == 32 {
		upTo = upTo32
	}
	for i, b := range r.Bufs {
		if r.Errno == 0 && len(b) > 2*upTo {
			r.Bufs[i] = strings.Repeat("..", upTo) + b[2*upTo:]
		}
	}
}

// bpf

// Instructions: r0 = 0, r0 = 1, exit, r2 = ctx->major.
const (
	r0Zero = "b700000000000000"
	r0One  = "b700000001000000"
	exit   = "9500000000000000"
	major  = "6112040000000000"
)

func bpfSequence(d dice) []string {
	// Descriptors 3 and 4 are cgroups, 5 and above programs.
	prepared := []string{"open /cgroup/x O_RDONLY|O_DIRECTORY", "open /cgroup/x/y O_RDONLY|O_DIRECTORY"}
	load := func() string {
		insns := d.often("4=2,p=hex:"+r0One+exit, "4=2,p=hex:"+r0Zero+exit, "4=3,p=hex:"+major+r0One+exit, "4=1,p=hex:"+exit,
			"4=3,p=hex:"+r0One+exit+exit, "4=0,p=hex:"+r0One+exit, "4=0xffffffff,p=hex:"+r0One+exit, "4=2,8=0", "4=2,p=bad", "4=2,p=protnone",
			"4=1,p=hex:"+r0One, "4=2,p=hex:0000000000000000"+exit)
		license := d.often("p=s:GPL", "p=s:MIT", "8=0", "p=bad", "p=long:200", "p=edge:GPL", "p=s:")
		log := d.often("4=0,4=0,8=0", "4=1,4=4096,p=buf:4096", "4=2,4=4096,p=buf:4096", "4=1,4=128,p=buf:160", "4=1,4=0,p=buf:16",
			"4=1,4=4096,8=0", "4=0,4=128,p=buf:128", "4=1,4=4096,p=bad", "4=8,4=128,p=buf:128", "4=16,4=128,p=buf:128")
		rest := d.often("4=0,4=0,8=0,8=0,4=0,4=0", "4=0,4=1,8=0,8=0,4=0,4=6", "4=0,4=0,8=0x6465765f6473,8=0,4=0,4=0",
			"4=0,4=0,8=0x2f,8=0,4=0,4=0", "4=7,4=0,8=0,8=0,4=0,4=0",
			d.mostly("4=0,4=2,8=0,8=0,4=0,4=0", "4=0,4=0x10,8=0,8=0,4=0,4=0", "4=0,4=0,8=0,8=0,4=0,4=99"),
			"4=0,4=0,8=0,8=0,4=0,4=0,8=0,8=0,8=0,8=0,8=0,8=0,8=0,8=0,8=0", "4=0,4=0,8=0,8=0,4=0,4=0,8=0,8=1,8=0")
		size := d.often("72", "48", "144", "300", "0", "4096", "5000", "-1", "40", "71", "0x100000048")
		return fmt.Sprintf("bpf 5 struct:4=%s,%s,%s,%s,%s %s", d.mostly("15", "8"), insns, license, log, rest, size)
	}
	target := func() string { return d.often(d.of("3", "4"), "0", "5", "99", "-1") }
	program := func() string { return d.often(d.of("5", "6"), "3", "7", "99", "-1", "0") }
	return d.random(prepared, func() []string {
		switch d.IntN(10) {
		case 0:
			if d.IntN(10) > 0 {
				return []string{"fd " + load()}
			}
			return []string{"sys bpf 5 " + d.of("null", "bad", "protnone", "buf:72", "buf:120", "buf:0") + " " + d.of("0", "72", "120", "5000")}
		case 1:
			return []string{"sys " + load()}
		case 2, 3:
			return []string{"fd " + load()}
		case 4, 5, 6:
			flags := d.often("2", "3", "4", "6", "0x80000000", d.mostly("2", "0", "1", "8"))
			return []string{fmt.Sprintf("sys bpf 8 struct:4=%s,4=%s,4=%s,4=%s,4=%s %s", target(), program(), d.mostly("6", "0", "2", "99"),
				flags, d.often("0", program()), d.often("20", "16", "24", "72", "5000", d.mostly("20", "0", "12")))}
		case 7:
			return []string{fmt.Sprintf("sys bpf 9 struct:4=%s,4=%s,4=%s %s", target(), program(), d.mostly("6", "0", "99"),
				d.often("12", "20", "16", "72", d.mostly("12", "8", "0")))}
		case 8:
			return []string{fmt.Sprintf("sys bpf 16 struct:4=%s,4=%s,4=%s,4=0x5a5a,%s,4=0 %s", target(), d.mostly("6", "0", "99"),
				d.often("0", "1", "2"), d.often("8=0,4=0", "p=buf:16,4=4", "p=buf:16,4=1", "8=0,4=4", d.mostly("8=0,4=0", "p=bad,4=4")),
				d.often("32", "24", "36", "64", d.mostly("32", "0")))}
		}
		return []string{"sys close " + d.of("3", "5", "6", "99")}
	})
}

// maskPrograms takes out the IDs of programs, which the kernel numbers: the buffer after the attr of a query.
func maskPrograms(_ sequence, command string, r *result) {
	if !strings.HasPrefix(command, "sys bpf 16 ") || len(r.Bufs) < 2 {
		return
	}
	const word = 8 // digits
	for at := 0; at+word <= len(r.Bufs[1]); at += word {
		if r.Bufs[1][at:at+word] != "00000000" {
			r.Bufs[1] = r.Bufs[1][:at] + "........" + r.Bufs[1][at+word:]
		}
	}
}

// sched

func schedSequence(d dice) []string {
	policies := []string{"SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_IDLE", "SCHED_DEADLINE", "4", "7", "-1", "8"}
	priority := func() string { return d.of("0", "0", "1", "1", "5", "9", "100", "-1", "10", "4096") }
	param := func() string {
		return d.often("struct:4="+priority(), "null", "bad", "protnone", "edge:ab", "edge:abcd")
	}
	tid := func() string {
		return d.often("0", "@leader", "@leader", "-1", "99999", "0x100000000", "4194304", "0x7fffffff")
	}
	shown := []string{"sys sched_getscheduler 0", "sys sched_getparam 0 buf:4", "sys getpriority 0 0", "sys sched_getattr 0 buf:56 56 0",
		"sys ioprio_get 1 0", "sys sched_getscheduler @leader", "sys getpriority 0 @leader", "sys ioprio_get 1 @leader"}
	prepared := []string{"fd gettid"}
	if d.one(3) {
		prepared = append(prepared, d.of("fork", "thread", "leader-exits")) // @0 is another from there on
	}
	if d.one(3) {
		prepared = append(prepared, "sys setpgid 0 0")
	}
	all := d.random(prepared, func() []string {
		switch d.IntN(10) {
		case 0, 1:
			policy := d.of(policies...) + d.often("", "|SCHED_RESET_ON_FORK")
			return []string{"sys sched_setscheduler " + tid() + " " + policy + " " + param()}
		case 2:
			return []string{"sys sched_setparam " + tid() + " " + param()}
		case 3, 4, 5:
			return []string{"sys sched_setattr " + tid() + " " + schedAttr(d, policies, priority) + " " + d.often("0", "1", "0x100000000")}
		case 6, 7:
			which := d.often("0", "1", "2", "3", "-1")
			who := d.often(tid(), "0", "1000", "99999")
			return []string{"sys setpriority " + which + " " + who + " " + strconv.Itoa(d.IntN(50)-25)}
		case 8:
			which := d.often("1", "2", "3", "0", "9")
			value := fmt.Sprintf("%#x", d.IntN(5)<<13|d.IntN(10))
			return []string{"sys ioprio_set " + which + " " + tid() + " " + d.often(value, "-1", "0x10000", "0x100002004", "0x2014")}
		}
		return []string{d.of(shown...)}
	})
	all = append(all, shown...)
	for i := range all {
		leader := "@0" // the caller's, or its parent
		if slices.Contains(all, "leader-exits") {
			leader = "0" // it exits sometime: nothing may depend on when
		}
		all[i] = strings.ReplaceAll(all[i], "@leader", leader)
	}
	return all
}

func schedAttr(d dice, policies []string, priority func() string) string {
	if d.one(12) {
		return d.of("null", "bad", "protnone", "edge:abcd")
	}
	size := d.often("48", "56", "0", "47", "64", "4096", "5000", "40", "1")
	flags := d.often("0", "1", "8", "0x10", "0x18", "0x20", "0x40", "0x60", "2", "4", "0x80", "0x9", "0x100000000")
	nice := d.often("0", "5", "-5", "-20", "19", "20", "-21", "-100")
	timed := d.often("8=0,8=0,8=0", "8=1000000,8=100000000,8=100000000", "8=1000,8=10000000,8=10000000", "8=20000000,8=10000000,8=10000000",
		"8=1000000,8=100000000,8=0", "8=500,8=1000,8=1000", "8=-1,8=-1,8=-1")
	extra := d.often("", ",4=0,4=1024", ",4=512,4=256", ",4=2000,4=0", ",8=0,8=0", ",8=0,8=1")
	return fmt.Sprintf("struct:4=%s,4=%s,8=%s,4=%s,4=%s,%s%s", size, d.of(policies...), flags, nice, priority(), timed, extra)
}
