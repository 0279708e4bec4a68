package differential

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/tests/stage"
	"golang.org/x/sys/unix"
)

// place is where sequences are carried out: testdata/place.c in a container or as real root.
type place struct {
	name    string
	process *stage.Process
}

// patience bounds the wait for a sequence, whose callers may have made themselves run after all others (SCHED_IDLE).
const patience = 5 * time.Minute

// errBusy means that a mount of the last sequence still holds the disk: a new container does not.
var errBusy = errors.New("the disk is busy")

func newPlace(name string, p *stage.Process) *place { return &place{name, p} }

// result is what one command of the caller printed.
type result struct {
	Op    string        `json:"op"`
	Ret   int64         `json:"ret"`
	Errno syscall.Errno `json:"errno"`
	Bufs  []string      `json:"bufs"` // hexadecimal
	Mode  uint32        `json:"mode"`
	Major uint32        `json:"major"`
	Minor uint32        `json:"minor"`
	UID   uint32        `json:"uid"`
	GID   uint32        `json:"gid"`
}

func (r result) String() string {
	errno := "ok"
	if r.Errno != 0 {
		errno = unix.ErrnoName(r.Errno)
	}
	switch r.Op {
	case "stat":
		return fmt.Sprintf("%s mode %o device %d:%d owner %d:%d", errno, r.Mode, r.Major, r.Minor, r.UID, r.GID)
	case "sys":
		return strings.TrimSpace(fmt.Sprintf("%s returned %d %s", errno, r.Ret, strings.Join(r.Bufs, " ")))
	}
	return errno
}

// observation is what became of a sequence in one place.
type observation struct {
	results   []result
	complaint string   // why the caller gave up
	tree      []string // of the sequence's folder: path, mode, owner ...
	mounts    []string // lines of mountinfo
	end       string   // exit status and signal
}

// ready waits until the place can carry out a sequence.
func (p *place) ready(t *stage.Test) {
	t.Helper()
	if _, err := p.answer(); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
}

// run carries out a sequence.
func (p *place) run(s sequence) (*observation, error) {
	request := fmt.Sprintf("run %d %s %d\n%s", s.bits, families[s.family].wanted, len(s.commands), s.text())
	if _, err := io.WriteString(p.process.In, request); err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	return p.answer()
}

func (p *place) answer() (*observation, error) {
	o := &observation{}
	var busy bool
	for {
		line, err := p.process.TryLine(patience)
		if err != nil {
			return nil, fmt.Errorf("%s: %w: %s%s", p.name, err, line, &p.process.Stderr)
		}
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "ready":
			if busy {
				return nil, errBusy
			}
			return o, nil
		case "busy":
			busy = true
		case "tree":
			o.tree = append(o.tree, rest)
		case "mount":
			o.mounts = append(o.mounts, rest)
		case "end":
			o.end = rest
		case "caller:":
			o.complaint = rest
		default:
			var r result
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				return nil, fmt.Errorf("%s: %q", p.name, line)
			}
			o.results = append(o.results, r)
		}
	}
}

// disk is a block device with an ext4 filesystem, for one place alone.
type disk struct {
	image  string // what it begins with
	number uint64
}

// newDisk makes a disk of a loop device. Its files are small: it is written anew before each sequence that wants it.
func newDisk(t *stage.Test) disk {
	t.Helper()
	dir := t.TempDir()
	image, backing := filepath.Join(dir, "image"), filepath.Join(dir, "backing")
	t.Command("truncate", "-s", "3M", image)
	t.Command("mkfs.ext4", "-q", "-b", "1024", "-N", "32", "-J", "size=1", "-E", "lazy_itable_init=0,root_owner=0:0",
		"-U", "6f0e9c1a-5d0b-4d52-9d3c-0c7a7a5f2a11", image)
	t.Command("cp", image, backing)
	device := strings.TrimSpace(t.Command("losetup", "--find", "--show", backing))
	t.Cleanup(func() { t.Command("losetup", "--detach", device) })
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		t.Fatal(err)
	}
	return disk{image, uint64(st.Rdev)}
}

// config enables all plugins, as far as real root can be compared with.
var config = stage.Enable(map[string]string{
	"mknod":   "",
	"sysinfo": "",
	"setxattr": `
attributes = ["trusted.overlay.opaque=y", "trusted.overlay.opaque=x", "trusted.list.*", "trusted.one", "security.NTACL"]
max_size = 64
read = true`,
	"sched": `
policies = ["other", "batch", "idle", "fifo", "rr", "deadline"]
min_nice = -20
max_io_priority = "rt:0"`,
	"bpf":   "devices = true",
	"mount": "allowed = [\"ext4\", \"ext3\", \"ext2\", \"xfs\", \"squashfs\"]\nshift = true",
})

// newContainer makes the root of a container of the daemon, for the program "place": a tmpfs of the host, as real
// root's is.
func newContainer(t *stage.Test, daemon *stage.Daemon, d disk) *stage.Container {
	t.Helper()
	c := daemon.Container("--device-cgroup-rule", fmt.Sprintf("b %d:%d rw", unix.Major(d.number), unix.Minor(d.number)))
	root, err := linux.NewMount("tmpfs", map[string]string{"source": "place", "mode": "755", "size": twinTmpfs, "nr_inodes": "20000"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := linux.Attach(root, c.Root); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(c.Root, unix.MNT_DETACH) })
	programs := map[string]string{"caller": stage.Program("caller"), "caller32": stage.Program("caller32")}
	if err := furnish(c.Root, programs, d.image, d.number); err != nil {
		t.Fatal(err)
	}
	return c
}

// pair is the two places, whose outcomes must be the same.
type pair struct {
	test      *stage.Test
	daemon    *stage.Daemon
	root      *stage.Container
	container *place
	twin      *place
}

func newPair(t *stage.Test) *pair {
	t.Helper()
	requireMachine(t)
	p := &pair{test: t, daemon: t.Serve(stage.Setup{Config: config})}
	p.root = newContainer(t, p.daemon, newDisk(t))
	p.twin = newTwin(t, newDisk(t))
	p.twin.ready(t)
	prove(t, p.twin)
	p.restart()
	return p
}

// restart starts another container instead of the last one.
func (p *pair) restart() {
	p.test.Helper()
	if p.container != nil {
		p.container.process.Kill()
	}
	p.container = newPlace("container", p.root.Start("place"))
	p.container.ready(p.test)
}

// run carries out a sequence in both places.
func (p *pair) run(s sequence) (got, want *observation) {
	p.test.Helper()
	if err := permit(s); err != nil {
		p.test.Fatalf("real root may not: %v\n%s", err, s)
	}
	type outcome struct {
		seen *observation
		err  error
	}
	twin := make(chan outcome)
	go func() {
		seen, err := p.twin.run(s)
		twin <- outcome{seen, err}
	}()
	got, err := p.container.run(s)
	for tries := 0; errors.Is(err, errBusy) && tries < 3; tries++ {
		p.restart()
		got, err = p.container.run(s)
	}
	real := <-twin
	for tries := 0; errors.Is(real.err, errBusy) && tries < 100; tries++ {
		real.seen, real.err = p.twin.run(s)
	}
	if err := errors.Join(err, real.err); err != nil {
		p.test.Fatalf("%v\n%s", err, s)
	}
	return got, real.seen
}

// unanswered reports whether the container had calls that a plugin did not answer: it failed, or on a machine that
// has too much to do a call took too long, or the container was quarantined for that. Another container goes on then.
func (p *pair) unanswered() bool {
	p.test.Helper()
	for _, c := range p.daemon.Status().Containers {
		if c.Failures > 0 {
			p.test.Logf("%d calls of container %s were not answered by a plugin", c.Failures, c.ID)
			p.restart()
			return true
		}
	}
	return false
}
