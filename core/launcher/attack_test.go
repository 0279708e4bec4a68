package launcher_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// hostile is a plugin that somebody else has taken over. It attacks when a container is attached, as its settings say,
// and refuses the container with what came of it.
//
// It has all the capabilities that a plugin of the project has, and declares no system call that would let it do what
// it tries. One whose name has "pids" in it is in the host's pid namespace; one with "declared" declares some calls.
type hostile struct{ name string }

const hostilePrefix = "hostile"

// becomeHostile becomes the plugin if this process was started as it, and does not return then.
func becomeHostile() {
	name, ok := strings.CutPrefix(filepath.Base(os.Args[0]), wire.BinaryPrefix)
	if !ok || !strings.HasPrefix(name, hostilePrefix) {
		return
	}
	if strings.Contains(name, "loud") && len(os.Args) == 1 {
		flood(unix.Stderr)
	}
	sdk.Serve(hostile{name})
}

func (h hostile) Manifest() sdk.Manifest {
	m := sdk.Manifest{
		Name: h.name, Version: "1", Description: "a plugin that was taken over",
		Syscalls: []sdk.Syscall{{Name: "getppid"}},
		Capabilities: []string{
			"CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_SETUID", "CAP_SETGID", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH",
			"CAP_FOWNER", "CAP_FSETID", "CAP_SYS_NICE", "CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON",
		},
		Uses: sdk.Uses{Host: []string{"/proc/loadavg", "/sys/kernel"}, HostPIDs: strings.Contains(h.name, "pids")},
		Settings: []sdk.Setting{
			{Key: "attack", Type: sdk.String, Default: "", Help: "what it does"},
			{Key: "on", Type: sdk.StringList, Default: []string{}, Help: "to whom"},
		},
		OnFailure: sdk.FailErrno(unix.EIO),
	}
	if strings.Contains(h.name, "declared") {
		m.Uses.Syscalls = []string{"mount", "setresuid", "pidfd_getfd", "socket"}
		m.Uses.Devices = []string{"b *:* m"}
	}
	if strings.Contains(h.name, "families") {
		m.Uses.Syscalls = slices.Sorted(maps.Keys(families))
	}
	return m
}

// succeeded is what it says of an attack that was not refused.
const succeeded = "the attack succeeded"

func (h hostile) Attach(_ context.Context, _ sdk.Container, settings sdk.Settings) (sdk.Session, error) {
	var s struct {
		Attack string   `json:"attack"`
		On     []string `json:"on"`
	}
	if err := settings.Decode(&s); err != nil {
		return nil, err
	}
	failure := make(chan error)
	// The thread ends with it: it may have changed its ids.
	linux.GoOnThread(func() { failure <- attacks[s.Attack](s.On) })
	if err := <-failure; err != nil {
		return nil, err
	}
	return nil, errors.New(succeeded)
}

// attacks give why they failed; nil: they did not.
var attacks = map[string]func(on []string) error{
	"open memory":            openMemory,
	"take a descriptor":      takeDescriptor,
	"mount":                  mount,
	"become root":            becomeRoot,
	"write as root":          writeAsRoot,
	"write to a host path":   writeToHostPath,
	"write to its binary":    writeToBinary,
	"connect":                connectTo,
	"reach a network":        reachNetwork,
	"make a disk's node":     makeDisk,
	"flood its log":          floodLog,
	"fill its folder":        fillFolder,
	"kill":                   killProcess,
	"read memory":            readMemory,
	"see processes":          seeProcesses,
	"fork":                   forkMany,
	"allocate":               allocateMuch,
	"join namespaces":        joinNamespaces,
	"find a mount namespace": findMountNamespace,
	"open by handle":         openByHandle,
	"freeze a filesystem":    freeze,
	"trace":                  trace,
	"execute a shell":        executeShell,
	"execute its own":        executeOwn,
	"load a BPF program":     loadBPF,
	"call what is declared":  callFamilies,
	"call what is refused":   callRefused,
	"make a user namespace":  makeUserNamespace,
	"ordinary work":          ordinaryWork,
}

func number(on []string) int {
	n, err := strconv.Atoi(on[0])
	if err != nil {
		panic(err)
	}
	return n
}

// first is the error of the first that succeeds, or else all errors.
func anyOf(errs ...error) error {
	for _, err := range errs {
		if err == nil {
			return nil
		}
	}
	return errors.Join(errs...)
}

// is gives nil if it is not the error that is wanted: something else than the sandbox refused the attack.
func is(what string, err, want error) error {
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, want):
		return fmt.Errorf("%s: unexpected: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func openMemory(on []string) error {
	_, err := os.OpenFile("/proc/"+on[0]+"/mem", os.O_RDWR, 0)
	return is("open", err, unix.ENOENT)
}

func takeDescriptor(on []string) error {
	pidfd, err := unix.PidfdOpen(number(on), 0)
	if err == nil {
		_, err = unix.PidfdGetfd(pidfd, 0, 0)
		return is("pidfd_getfd", err, unix.EPERM)
	}
	own, ownErr := unix.PidfdOpen(os.Getpid(), 0)
	if ownErr != nil {
		return fmt.Errorf("unexpected: %w", ownErr)
	}
	_, getErr := unix.PidfdGetfd(own, 0, 0)
	return anyOf(is("pidfd_open", err, unix.ESRCH), is("pidfd_getfd of its own", getErr, unix.EPERM))
}

func mount([]string) error {
	_, treeErr := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE)
	_, openErr := unix.Fsopen("tmpfs", 0)
	_, pickErr := unix.Fspick(unix.AT_FDCWD, "/", 0)
	return anyOf(
		is("mount", unix.Mount("x", "/proc", "tmpfs", 0, ""), unix.EPERM),
		is("remount", unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND, ""), unix.EPERM),
		is("umount", unix.Unmount("/proc", unix.MNT_DETACH), unix.EPERM),
		is("pivot_root", unix.PivotRoot("/", "/"), unix.EPERM),
		is("move_mount", unix.MoveMount(unix.AT_FDCWD, "/proc", unix.AT_FDCWD, "/dev", 0), unix.EPERM),
		is("mount_setattr", unix.MountSetattr(unix.AT_FDCWD, "/", 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}), unix.EPERM),
		is("open_tree", treeErr, unix.EPERM), is("fsopen", openErr, unix.EPERM), is("fspick", pickErr, unix.EPERM),
	)
}

// raw makes a system call on the calling thread alone.
func raw(number uintptr, args ...uintptr) error {
	var all [6]uintptr
	copy(all[:], args)
	if _, _, errno := unix.RawSyscall6(number, all[0], all[1], all[2], all[3], all[4], all[5]); errno != 0 {
		return errno
	}
	return nil
}

// families are what outsiders write plugins for, with arguments that do no harm.
var families = map[string]func() error{
	"quotactl":          func() error { return raw(unix.SYS_QUOTACTL, ^uintptr(0)) },
	"keyctl":            func() error { return raw(unix.SYS_KEYCTL, ^uintptr(0)) },
	"finit_module":      func() error { return raw(unix.SYS_FINIT_MODULE, ^uintptr(0), 0, 0) },
	"open_by_handle_at": func() error { return raw(unix.SYS_OPEN_BY_HANDLE_AT, ^uintptr(0), 0, 0) },
	"perf_event_open":   func() error { return raw(unix.SYS_PERF_EVENT_OPEN, 0) },
	"fanotify_init":     func() error { return raw(unix.SYS_FANOTIFY_INIT, ^uintptr(0), 0) },
	"syslog":            func() error { return raw(unix.SYS_SYSLOG, ^uintptr(0)) },
	"clock_settime":     func() error { return raw(unix.SYS_CLOCK_SETTIME, ^uintptr(0), 0) },
	"userfaultfd":       func() error { return raw(unix.SYS_USERFAULTFD, 1) },
	"swapon":            func() error { return raw(unix.SYS_SWAPON, 0, 0) },
}

func callFamilies([]string) error {
	for _, call := range families {
		call()
	}
	return errors.New("called")
}

// callRefused makes a call that is refused, so many times on each of so many threads.
func callRefused(on []string) error {
	var calls sync.WaitGroup
	for range number(on) {
		calls.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for range number(on[1:]) {
				raw(unix.SYS_KEYCTL, 1, 2, 3)
			}
		})
	}
	calls.Wait()
	return is("keyctl", raw(unix.SYS_KEYCTL), unix.EPERM)
}

func becomeRoot([]string) error {
	return anyOf(
		is("setresuid", raw(unix.SYS_SETRESUID, 0, 0, 0), unix.EPERM), is("setresgid", raw(unix.SYS_SETRESGID, 0, 0, 0), unix.EPERM),
		is("setreuid", raw(unix.SYS_SETREUID, 0, 0), unix.EPERM), is("setregid", raw(unix.SYS_SETREGID, 0, 0), unix.EPERM),
		is("setuid", raw(unix.SYS_SETUID, 0), unix.EPERM), is("setgid", raw(unix.SYS_SETGID, 0), unix.EPERM),
	)
}

// actAsRoot has the files that the thread makes, and opens, be root's.
func actAsRoot() { raw(unix.SYS_SETFSUID, 0) }

func writeAsRoot(on []string) error {
	actAsRoot()
	_, hereErr := os.Create("/file")
	_, thereErr := os.Create(filepath.Join(on[0], "file"))
	return anyOf(is("in its root", hereErr, unix.EROFS), is("in a folder of root's", thereErr, unix.ENOENT))
}

func writeToHostPath([]string) error {
	actAsRoot()
	_, helperErr := os.OpenFile("/sys/kernel/uevent_helper", os.O_WRONLY, 0)
	if errors.Is(helperErr, unix.ENOENT) { // not in every kernel
		_, helperErr = os.OpenFile("/sys/kernel/profiling", os.O_WRONLY, 0)
	}
	_, loadErr := os.OpenFile("/proc/loadavg", os.O_WRONLY, 0)
	if text, err := os.ReadFile("/proc/loadavg"); err != nil || len(text) == 0 {
		return fmt.Errorf("unexpected: it does not see the path: %q, %v", text, err)
	}
	return anyOf(is("sysfs", helperErr, unix.EROFS), is("procfs", loadErr, unix.EROFS))
}

func writeToBinary([]string) error {
	actAsRoot()
	binary, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	return anyOf(is("fchmod", binary.Chmod(0o6777), unix.EROFS), is("fchown", binary.Chown(1, 1), unix.EROFS))
}

func connectTo(on []string) error {
	_, pathErr := net.Dial("unix", on[0])
	_, abstractErr := net.Dial("unix", on[1])
	return anyOf(is("path", pathErr, unix.ENOENT), is("abstract", abstractErr, unix.ECONNREFUSED))
}

func reachNetwork([]string) error {
	var errs []error
	for _, family := range []int{unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK, unix.AF_PACKET, unix.AF_VSOCK, unix.AF_ALG} {
		_, err := unix.Socket(family, unix.SOCK_DGRAM, 0)
		errs = append(errs, is(fmt.Sprintf("family %d", family), err, unix.EPERM))
	}
	return anyOf(errs...)
}

// writable is the only folder that it can write to.
func writable() string { return os.Getenv("TMPDIR") }

func makeDisk(on []string) error {
	path := filepath.Join(writable(), "disk")
	err := unix.Mknod(path, unix.S_IFBLK|0o600, number(on))
	if err == nil {
		_, err = os.Open(path)
	}
	return is("mknod", err, unix.EPERM)
}

const (
	floodSize = 82 << 20
	floodLine = 1000
)

// flood writes 82 MB to the descriptor, in lines and then without any.
func flood(fd int) {
	lines := bytes.Repeat(append(bytes.Repeat([]byte("x"), floodLine-1), '\n'), 64)
	endless := bytes.Repeat([]byte("x"), len(lines))
	for written := 0; written < floodSize; written += len(lines) {
		text := lines
		if written > floodSize/2 {
			text = endless
		}
		for len(text) > 0 {
			n, err := unix.Write(fd, text)
			if err != nil && err != unix.EINTR && err != unix.EAGAIN {
				return
			}
			text = text[max(n, 0):]
		}
	}
}

// flooding is what floodLog has begun.
var flooding = sync.OnceValue(func() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		flood(unix.Stderr)
		for range floodSize / floodLine / 64 {
			fmt.Fprintln(os.Stderr, strings.Repeat("y", floodLine-1)) // to the broker over gRPC, as go-plugin has it
		}
	}()
	return done
})

// floodLog reports whether all is written: it begins at the first call.
func floodLog([]string) error {
	select {
	case <-flooding():
		return errors.New("it is written")
	default:
		return errors.New("it is being written")
	}
}

func fillFolder([]string) error {
	file, err := os.Create(filepath.Join(writable(), "file"))
	if err != nil {
		return fmt.Errorf("unexpected: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	_, err = io.CopyN(file, zeros{}, 4<<20)
	return is("4 MiB", err, unix.ENOSPC)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func killProcess(on []string) error {
	want := unix.EPERM // by the ids of the processes
	if os.Getpid() == 1 {
		want = unix.ESRCH
	}
	pid := number(on)
	return anyOf(
		is("kill", unix.Kill(pid, unix.SIGKILL), want), is("tkill", raw(unix.SYS_TKILL, uintptr(pid), uintptr(unix.SIGKILL)), want),
		is("tgkill", unix.Tgkill(pid, pid, unix.SIGKILL), want),
	)
}

func readMemory(on []string) error {
	buf := make([]byte, 8)
	local := []unix.Iovec{{Base: &buf[0], Len: 8}}
	_, err := unix.ProcessVMReadv(number(on), local, []unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&buf[0])), Len: 8}}, 0)
	return anyOf(openMemory(on), is("process_vm_readv", err, unix.EPERM))
}

func seeProcesses([]string) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return fmt.Errorf("unexpected: %w", err)
	}
	// Symbolic links: where /proc has files of the host's, the procfs is elsewhere.
	if link, err := os.Readlink("/proc/self"); err == nil && filepath.IsAbs(link) {
		more, err := os.ReadDir(filepath.Dir(link))
		if err != nil {
			return fmt.Errorf("unexpected: %w", err)
		}
		entries = append(entries, more...)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && pid != os.Getpid() {
			return nil
		}
	}
	if _, err := os.Stat("/proc/self/status"); err != nil {
		return fmt.Errorf("unexpected: it does not see itself: %w", err)
	}
	return fmt.Errorf("it sees %s", strings.Join(names, " "))
}

// forkMany forks processes that do nothing.
//
//go:norace
func forkMany(on []string) error {
	for n := range number(on) {
		pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			return fmt.Errorf("after %d: %w", n, errno)
		}
		if pid == 0 {
			for {
				unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
			}
		}
	}
	return nil
}

func allocateMuch(on []string) error {
	size := os.Getpagesize()
	for left := number(on) << 20; left > 0; left -= 1 << 20 {
		memory, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return err
		}
		for i := 0; i < len(memory); i += size {
			memory[i] = 1
		}
	}
	return nil
}

// joinNamespaces is given the links of the host's namespaces.
func joinNamespaces(on []string) error {
	var errs []error
	for _, link := range on {
		kind, _, _ := strings.Cut(link, ":")
		now, err := os.Readlink("/proc/1/ns/" + kind)
		switch {
		case err == nil && now != link:
			err = fmt.Errorf("%s: process 1 is another", kind)
		case err == nil:
			fd, openErr := unix.Open("/proc/1/ns/"+kind, unix.O_RDONLY, 0)
			err = anyOf(openErr, unix.Setns(fd, 0))
		}
		errs = append(errs, err)
	}
	pidfd, err := unix.PidfdOpen(1, 0)
	if err == nil && os.Getpid() != 1 {
		err = unix.Setns(pidfd, unix.CLONE_NEWNS)
		userErr := unix.Setns(pidfd, unix.CLONE_NEWUSER)
		errs = append(errs, is("setns with a pidfd", err, unix.EPERM), is("with a user namespace", userErr, unix.EPERM))
	}
	return anyOf(errs...)
}

func findMountNamespace([]string) error {
	own, err := unix.Open("/proc/self/ns/mnt", unix.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("unexpected: %w", err)
	}
	const next, previous = 0x8010b70b, 0x8010b70c // NS_MNT_GET_NEXT, NS_MNT_GET_PREV (linux/nsfs.h)
	var info [16]byte
	at := uintptr(unsafe.Pointer(&info[0]))
	return anyOf(
		is("NS_MNT_GET_NEXT", raw(unix.SYS_IOCTL, uintptr(own), next, at), unix.EPERM),
		is("NS_MNT_GET_PREV", raw(unix.SYS_IOCTL, uintptr(own), previous, at), unix.EPERM),
		is("listmount", raw(unix.SYS_LISTMOUNT), unix.EPERM), is("statmount", raw(unix.SYS_STATMOUNT), unix.EPERM),
	)
}

func openByHandle([]string) error {
	_, _, nameErr := unix.NameToHandleAt(unix.AT_FDCWD, "/", 0)
	_, openErr := unix.OpenByHandleAt(unix.AT_FDCWD, unix.NewFileHandle(1, make([]byte, 8)), unix.O_RDONLY)
	return anyOf(is("name_to_handle_at", nameErr, unix.EPERM), is("open_by_handle_at", openErr, unix.EPERM))
}

// freeze tries commands of the filesystem that its binary is on.
func freeze([]string) error {
	binary, err := unix.Open("/proc/self/exe", unix.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("unexpected: %w", err)
	}
	const trim, shutdown, openByHandle = 0xc0185879, 0x8004587d, 0x4030586b // FITRIM, FS_IOC_SHUTDOWN, XFS_IOC_OPEN_BY_HANDLE
	var errs []error
	for _, command := range []uintptr{trim, shutdown, openByHandle} { // FIFREEZE would freeze this machine
		errs = append(errs, is(fmt.Sprintf("ioctl %#x", command), raw(unix.SYS_IOCTL, uintptr(binary), command, 0), unix.EPERM))
	}
	return anyOf(errs...)
}

func trace(on []string) error {
	return anyOf(is("ptrace", unix.PtraceAttach(number(on)), unix.EPERM), is("kcmp", raw(unix.SYS_KCMP, uintptr(number(on))), unix.EPERM))
}

func executeShell([]string) error {
	return is("execve", unix.Exec("/bin/sh", []string{"sh"}, nil), unix.EPERM)
}

// executeOwn tries to execute a program that it has made itself, and to do it as its own start was.
func executeOwn([]string) error {
	program, err := unix.MemfdCreate("program", 0)
	if err != nil {
		return fmt.Errorf("unexpected: %w", err)
	}
	empty := [1]byte{}
	execute := func(fd int) error {
		return raw(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(&empty[0])), 0, 0, unix.AT_EMPTY_PATH)
	}
	var descriptors unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &descriptors); err != nil {
		return fmt.Errorf("unexpected: %w", err)
	}
	forbidden := int(descriptors.Max)
	return anyOf(
		is("execveat", execute(program), unix.EPERM),
		is("a descriptor of the number", unix.Dup3(program, forbidden, 0), unix.EBADF),
		is("more descriptors", unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: descriptors.Max + 1, Max: descriptors.Max + 1}), unix.EPERM),
		is("execveat of it", execute(forbidden), unix.EBADF),
	)
}

func loadBPF([]string) error { return is("bpf", raw(unix.SYS_BPF), unix.EPERM) }

func makeUserNamespace([]string) error {
	return anyOf(
		is("unshare", unix.Unshare(unix.CLONE_NEWUSER), unix.EPERM),
		is("clone", raw(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD)), unix.EPERM),
		is("clone3", raw(unix.SYS_CLONE3), unix.ENOSYS),
	)
}

// ordinaryWork is what a plugin does that acts for callers: it needs no declaration.
//
//go:norace
func ordinaryWork([]string) error {
	home, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	root, err := unix.Open("/", unix.O_PATH, 0)
	if err != nil {
		return err
	}
	watch, err := unix.InotifyInit1(0)
	if err != nil {
		return err
	}
	if _, err := unix.InotifyAddWatch(watch, fmt.Sprintf("/proc/self/fd/%d", root), unix.IN_DELETE_SELF); err != nil {
		return err
	}
	for _, name := range []string{fmt.Sprintf("fdinfo/%d", watch), "mountinfo", "cgroup", "status", "oom_score_adj"} {
		if _, err := os.ReadFile("/proc/self/" + name); err != nil {
			return err
		}
	}
	// As target.Do goes to a place and comes home.
	if err := errors.Join(unix.Unshare(unix.CLONE_FS), raw(unix.SYS_SETGROUPS), raw(unix.SYS_SETFSGID, 7), raw(unix.SYS_SETFSUID, 7),
		unix.Setns(home, unix.CLONE_NEWNS), unix.Fchdir(root), unix.Chroot(".")); err != nil {
		return err
	}
	child, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if child == 0 {
		for {
			unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
		}
	}
	if err := unix.Kill(int(child), unix.SIGKILL); err != nil {
		return err
	}
	_, err = unix.Wait4(int(child), nil, unix.WALL, nil)
	return err
}
