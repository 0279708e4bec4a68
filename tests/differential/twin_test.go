package differential

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/intercede/intercede/internal/cgroup"
	"github.com/intercede/intercede/internal/cgroup/limit"
	"github.com/intercede/intercede/internal/device"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/require"
	"github.com/intercede/intercede/tests/stage"
	"golang.org/x/sys/unix"
)

// Real root's place. The program in it is the host's own root, which random calls are made as, so that it must reach
// nothing of the host:
//
//   - It has mount, PID, network, IPC, UTS and cgroup namespaces of its own. Its root is a tmpfs of its own, the old
//     one is unmounted, and procfs shows its processes alone (subset=pid): no /proc/sys, no /sys.
//   - It has no descriptor but pipes to the test, and its session and process group are its own.
//   - Its cgroup lets it make any device node, and open those of the disk, null, zero, full, random and urandom alone.
//   - Its bounding set has the capabilities that the calls are about, and none by which a process reaches the
//     machine: no CAP_SYS_BOOT, MODULE, RAWIO, TIME, PTRACE, RESOURCE, NET_ADMIN.
//   - A seccomp filter kills it at any call that is not listed in twinCalls.
//   - permit looks at each sequence before: no real-time priority above 10, no filesystem but tmpfs and ext4.
//
// TestConfinement and each test's own start try this out before a random call is made (prove).

// twinCapabilities are what real root has.
var twinCapabilities = []int{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL, unix.CAP_SETGID,
	unix.CAP_SETUID, unix.CAP_SETPCAP, unix.CAP_SYS_CHROOT, unix.CAP_MKNOD, unix.CAP_SYS_ADMIN, unix.CAP_SYS_NICE, unix.CAP_SETFCAP,
}

// twinDevices are what can be opened in real root's place beside the disk.
var twinDevices = []string{"c *:* m", "b *:* m", "c 1:3 rw", "c 1:5 rw", "c 1:7 rw", "c 1:8 rw", "c 1:9 rw"}

const (
	stageEnv    = "DIFFERENTIAL_STAGE"
	stageTwin   = "twin"
	orderFD     = 3
	twinTmpfs   = "64m"
	twinMemory  = 512 << 20
	twinFile    = 64 << 20
	twinRunTime = 500_000 // microseconds that a real-time thread may run without sleeping
)

// twinOrder is what the stage is told.
type twinOrder struct {
	Dir      string            // an empty folder, which the tmpfs is mounted on in the stage's own namespace
	Programs map[string]string // name in /bin: path on the host
	Image    string            // of the disk
	Disk     uint64            // its device number
	Filter   []unix.SockFilter
}

// requireMachine skips the test where there is no such place, or no such container.
func requireMachine(t *stage.Test) {
	t.Helper()
	require.Root(t)
	require.Kernel(t, "6.10", "F_DUPFD_QUERY") // the mount plugin has no fsopen(2) without
}

// newTwin starts the program "place" as real root.
func newTwin(t *stage.Test, d disk) *place {
	t.Helper()
	order := twinOrder{
		Dir: t.TempDir(), Programs: map[string]string{}, Image: d.image, Disk: d.number, Filter: twinFilter(t),
	}
	for _, name := range []string{"place", "caller", "caller32"} {
		order.Programs[name] = stage.Program(name)
	}
	text, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "order")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	orderFile, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer orderFile.Close()
	group := twinCgroup(t, d)
	defer group.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{stageEnv + "=" + stageTwin}
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{orderFile}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Setsid:     true, UseCgroupFD: true, CgroupFD: int(group.Fd()),
	}
	return newPlace("real root", t.Start(cmd))
}

// twinCgroup makes the cgroup of real root's place.
func twinCgroup(t *stage.Test, d disk) *os.File {
	t.Helper()
	own, err := cgroup.OwnFolders()
	if err != nil {
		t.Fatal(err)
	}
	group, err := limit.Make(own[""].Path, fmt.Sprintf("differential-%d-%d", os.Getpid(), d.number))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		t.Eventually("the cgroup of real root can be removed", func() bool {
			for _, below := range []string{"x/y", "x", ""} {
				os.Remove(filepath.Join(group.Dir, below))
			}
			_, err := os.Stat(group.Dir)
			return errors.Is(err, os.ErrNotExist)
		})
	})
	rules, err := device.ParseRules(append(twinDevices, fmt.Sprintf("b %d:%d rw", unix.Major(d.number), unix.Minor(d.number))))
	if err != nil {
		t.Fatal(err)
	}
	if err := group.AllowDevices(rules); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(group.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// becomeTwin is the stage: it confines itself and executes the program. It returns only with an error.
func becomeTwin() error {
	runtime.LockOSThread()
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", orderFD))
	if err != nil {
		return err
	}
	var order twinOrder
	if err := json.Unmarshal(text, &order); err != nil {
		return err
	}
	if os.Getpid() != 1 {
		return errors.New("the stage has no PID namespace of its own")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("cgroup namespace: %w", err)
	}
	if err := order.enterRoot(); err != nil {
		return err
	}
	if err := checkMounts(); err != nil {
		return err
	}
	if err := limitTwin(); err != nil {
		return err
	}
	if err := unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	if err := linux.LoadFilter(order.Filter); err != nil {
		return err
	}
	return fmt.Errorf("execute: %w", unix.Exec("/bin/place", []string{"/bin/place"}, []string{}))
}

// enterRoot makes a new tmpfs with the programs and the disk the root, and leaves the host's.
func (o *twinOrder) enterRoot() error {
	root, err := linux.NewMount("tmpfs", map[string]string{"source": "place", "mode": "755", "size": twinTmpfs, "nr_inodes": "20000"}, 0)
	if err != nil {
		return err
	}
	proc, err := linux.NewMount("proc", map[string]string{"source": "proc", "subset": "pid"}, 0)
	if err != nil {
		return err
	}
	if err := linux.Attach(root, o.Dir); err != nil {
		return err
	}
	if err := unix.Chdir(o.Dir); err != nil {
		return err
	}
	unix.Umask(0)
	if err := furnish(".", o.Programs, o.Image, o.Disk); err != nil {
		return err
	}
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		if err := unix.Mknod("dev/"+name, unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
	}
	if err := linux.Attach(proc, "proc"); err != nil {
		return err
	}
	return linux.PivotHere()
}

// furnish fills the root of a place: the programs, the disk and its image, and empty folders.
func furnish(root string, programs map[string]string, image string, disk uint64) error {
	for _, dir := range []string{"bin", "dev", "proc", "cgroup"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	for name, path := range programs {
		if err := copyFile(path, filepath.Join(root, "bin", name), 0o755); err != nil {
			return err
		}
	}
	if err := copyFile(image, filepath.Join(root, "disk.image"), 0o600); err != nil {
		return err
	}
	node := filepath.Join(root, "disk")
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(disk)); err != nil {
		return fmt.Errorf("make %s: %w", node, err)
	}
	return os.Chmod(node, 0o600)
}

func copyFile(from, to string, mode os.FileMode) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(to, text, mode), os.Chmod(to, mode))
}

// checkMounts fails unless the root and its procfs are all that is mounted.
func checkMounts() error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(text)) {
		points = append(points, strings.Fields(line)[4])
	}
	if got := strings.Join(points, " "); got != "/ /proc" {
		return fmt.Errorf("mounts are left in real root's place: %s", got)
	}
	return nil
}

// limitTwin takes away what is not compared.
func limitTwin() error {
	for resource, most := range map[int]uint64{
		unix.RLIMIT_CORE: 0, unix.RLIMIT_FSIZE: twinFile, unix.RLIMIT_RTTIME: twinRunTime, unix.RLIMIT_DATA: twinMemory,
	} {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return fmt.Errorf("limit %d: %w", resource, err)
		}
	}
	var keep uint64
	for _, capability := range twinCapabilities {
		keep |= 1 << capability
	}
	left, err := linux.DropBounding(^keep)
	if err != nil {
		return err
	}
	if left != keep {
		return fmt.Errorf("the bounding set is %#x, want %#x", left, keep)
	}
	return linux.SetThreadCapabilities(linux.CapabilitySets{Effective: keep, Permitted: keep})
}
