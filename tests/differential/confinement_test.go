package differential

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/intercede/intercede/tests/stage"
	"golang.org/x/sys/unix"
)

// TestConfinement tries to leave real root's place, or to reach what is not its own.
func TestConfinement(t *testing.T) {
	test := stage.New(t, nil)
	requireMachine(test)
	twin := newTwin(test, newDisk(test))
	twin.ready(test)
	prove(test, twin)
}

// killed are calls at which real root is killed, with all that would be needed for them to do nothing.
var killed = strings.Fields(`reboot init_module finit_module delete_module kexec_load ptrace setns open_by_handle_at name_to_handle_at
	pivot_root swapon swapoff acct settimeofday clock_settime adjtimex syslog keyctl add_key listmount statmount open_tree
	mount_setattr process_vm_writev pidfd_open pidfd_getfd perf_event_open io_uring_setup userfaultfd socket sethostname quotactl
	sched_setaffinity fanotify_init iopl ioperm`)

// prove fails the test unless real root's place is confined.
func prove(t *stage.Test, twin *place) {
	t.Helper()
	prober := prober{t, twin}
	for _, bits := range []int{64, 32} {
		for _, call := range killed {
			prober.wantEnd(bits, "-1 31", "sys "+call+" -1 -1 -1 -1")
		}
		prober.wantEnd(bits, "-1 31", "sys unshare CLONE_NEWPID")
		prober.wantEnd(bits, "-1 31", "sys bpf 13 struct:4=1,4=0,4=0 12") // BPF_PROG_GET_FD_BY_ID
		prober.wantEnd(bits, "-1 31", "sys bpf 28 null 0")                // BPF_LINK_CREATE
		prober.wantErrnos(bits, unix.ENOTTY, "sys ioctl 0 0x5401 null")
	}
	prober.wantErrnos(64, unix.ENOENT,
		"stat /etc", "stat /sys", "stat /proc/sys", "stat /proc/sysrq-trigger", "stat /proc/kcore", "stat /../../etc/passwd",
		"stat /proc/1/root/etc", "stat /proc/1/cwd/etc", fmt.Sprintf("stat /proc/%d", os.Getpid()), "stat /proc/self/fd/3")
	// Devices can be made; memory, the kernel's log, the console, terminals and disks of others cannot be opened.
	for _, device := range []string{"CHR 1:1", "CHR 1:11", "CHR 5:1", "CHR 5:0", "CHR 4:1", "CHR 10:237", "BLK 7:255", "BLK 8:0",
		"BLK 254:0"} {
		kind, number, _ := strings.Cut(device, " ")
		prober.wantErrnos(64, unix.EPERM, "do mknod s:node S_IF"+kind+"|0600 dev:"+number, "openfile node O_RDONLY")
	}
	prober.wantErrnos(64, 0, "openfile /dev/null O_RDWR", "openfile /disk O_RDONLY")
	prober.capabilities()
	prober.processes()
}

type prober struct {
	*stage.Test
	twin *place
}

func (p *prober) run(bits int, commands ...string) *observation {
	p.Helper()
	seen, err := p.twin.run(sequence{"mknod", bits, commands})
	if err != nil {
		p.Fatal(err)
	}
	return seen
}

func (p *prober) wantEnd(bits int, end string, commands ...string) {
	p.Helper()
	seen := p.run(bits, commands...)
	if seen.end != end && !strings.Contains(seen.complaint, "no number and no constant") { // i386 lacks some calls
		p.Fatalf("real root is not confined: %q ends with %q, want %q: %v %s", commands, seen.end, end, seen.results, seen.complaint)
	}
}

// wantErrnos wants all commands that print a result to have this one.
func (p *prober) wantErrnos(bits int, errno unix.Errno, commands ...string) {
	p.Helper()
	seen := p.run(bits, commands...)
	printing := sequence{commands: commands}.printing()
	if seen.end != "0 0" || len(seen.results) != len(printing) {
		p.Fatalf("real root's place: %q ends with %q, %s", commands, seen.end, seen.complaint)
	}
	for i, r := range seen.results {
		if r.Errno != errno {
			p.Fatalf("real root is not confined: %s: %v, want %v", printing[i], r, errno)
		}
	}
}

// capabilities looks at the caller's own: struct __user_cap_data_struct of capget(2).
func (p *prober) capabilities() {
	p.Helper()
	seen := p.run(64, "sys capget struct:4=0x20080522,4=0 buf:24", "sys prctl 23 21", "sys prctl 23 22", "sys prctl 23 24")
	data, err := hex.DecodeString(seen.results[0].Bufs[1])
	if err != nil || len(data) != 24 {
		p.Fatalf("capget: %v", seen.results)
	}
	permitted := uint64(binary.LittleEndian.Uint32(data[4:])) | uint64(binary.LittleEndian.Uint32(data[16:]))<<32
	var want uint64
	for _, c := range twinCapabilities {
		want |= 1 << c
	}
	if permitted != want {
		p.Fatalf("real root has the capabilities %#x, want %#x", permitted, want)
	}
	// The bounding set (PR_CAPBSET_READ): CAP_SYS_ADMIN, and neither CAP_SYS_BOOT nor CAP_SYS_RESOURCE.
	if got := fmt.Sprint(seen.results[1].Ret, seen.results[2].Ret, seen.results[3].Ret); got != "1 0 0" {
		p.Fatalf("real root's bounding set has %s of CAP_SYS_ADMIN, CAP_SYS_BOOT and CAP_SYS_RESOURCE", got)
	}
}

// processes has real root change all processes of its user and its group: the test's are not among them.
func (p *prober) processes() {
	p.Helper()
	before, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		p.Fatal(err)
	}
	seen := p.run(64, "sys setpriority 2 0 7", "sys setpriority 1 0 7", "sys getpgid 0", "sys getsid 0")
	for i, r := range seen.results {
		if r.Errno != 0 || i > 1 && r.Ret != 1 {
			p.Fatalf("real root is in another's session or process group: %v", seen.results)
		}
	}
	after, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		p.Fatal(err)
	}
	if after != before {
		p.Fatalf("real root changed the test's nice value from %d to %d", before, after)
	}
}
