// Package sandbox runs a plugin's process: with a user of its own, the capabilities that it declares and no others,
// an empty root filesystem, no network, no devices, and a filter of the system calls that it does not declare. What
// starts a plugin calls Init first.
package sandbox

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// sandboxName is argv[0] of a process that is to become a plugin: this same program, executed again.
const sandboxName = "intercede-sandbox"

// Descriptors of a process that is to become a plugin.
const (
	binaryFD   = 3 // the plugin's binary, or a script's interpreter, opened and checked by the broker
	lifelineFD = 4
	lanesFD    = 5
	socketFD   = 6 // a detached mount, for socketDir
)

// restrictions are what a plugin process may be. They travel as JSON in argv[1].
type restrictions struct {
	Args         []string // the plugin's arguments, the zeroth included
	Script       int      // the descriptor of a mount of the script that the binary interprets; 0: there is none
	ID           int      // user and group id
	Capabilities []string // bounding, permitted, effective, inheritable and ambient: these and no others
	Syscalls     []string // that it declares
	Host         []string // paths of the host that it sees
	HostPIDs     bool     // it has no pid namespace of its own
	Joins        []string // files of cgroups of version 1
	Memory       uint64   // RLIMIT_DATA; 0: as it is
	Tasks        uint64   // RLIMIT_NPROC
	Served       bool     // it has a lifeline, a socket for lanes, and one for gRPC
}

// Init becomes a plugin if this process was started to be one, and does not return then. Every program that starts
// plugins calls it first in main: the restrictions are laid on one thread, which then executes the plugin, so that they
// need no help from the plugin and nothing of the broker is left in the process.
func Init() {
	if len(os.Args) != 2 || os.Args[0] != sandboxName {
		return
	}
	runtime.LockOSThread()
	fmt.Fprintln(os.Stderr, "starting a plugin:", becomePlugin(os.Args[1]))
	os.Exit(1)
}

func becomePlugin(text string) error {
	var r restrictions
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return err
	}
	if err := r.closeDoors(); err != nil {
		return err
	}
	if err := join(r.Joins); err != nil {
		return err
	}
	if err := beKilledEarlier(); err != nil {
		return err
	}
	if err := r.enterRoot(); err != nil {
		return err
	}
	binary, err := r.setLimits()
	if err != nil {
		return err
	}
	if err := r.dropPrivileges(); err != nil {
		return err
	}
	if err := r.loadFilter(binary); err != nil {
		return err
	}
	// The plugin's own watch of its lifeline is its own good will.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("signal at the broker's death: %w", err)
	}
	return r.exec(binary)
}

// closeDoors leaves the plugin no descriptor and no directory of the broker's.
func (r *restrictions) closeDoors() error {
	if err := endInput(); err != nil {
		return err
	}
	last := max(binaryFD, r.Script)
	if r.Served {
		last = max(socketFD, r.Script)
	}
	if err := unix.CloseRange(uint(last)+1, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	if r.Script != 0 {
		unix.CloseOnExec(r.Script)
	}
	unix.CloseOnExec(socketFD)
	return os.Chdir("/")
}

// endInput makes standard input one that is at its end. It is not /dev/null, since the process may open no device.
func endInput() error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	defer linux.CloseAll(pipe[:]...)
	if err := unix.Dup3(pipe[0], 0, 0); err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	return nil
}

// maxDescriptors bounds the descriptors of a plugin: those of the calls that it can have, and much more.
const maxDescriptors = 1 << 15

// setLimits leaves no core dumps, which would be written as root, and bounds what a plugin can make of itself. It
// returns the new number of the binary's descriptor: the first that is above the limit on descriptors, so that the
// process cannot have another of that number (see filterProgram).
func (r *restrictions) setLimits() (binary int, err error) {
	unix.Umask(0o077)
	if err := limitTo(unix.RLIMIT_CORE, 0); err != nil {
		return 0, err
	}
	if err := limitTo(unix.RLIMIT_NPROC, r.Tasks); err != nil {
		return 0, err
	}
	if r.Memory != 0 {
		if err := limitTo(unix.RLIMIT_DATA, r.Memory); err != nil {
			return 0, err
		}
	}
	var descriptors unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &descriptors); err != nil {
		return 0, fmt.Errorf("getrlimit: %w", err)
	}
	// A large table is made in no time for a thread that shares it with none (expand_fdtable, fs/file.c).
	if err := unix.Unshare(unix.CLONE_FILES); err != nil {
		return 0, fmt.Errorf("unshare descriptors: %w", err)
	}
	binary = int(min(descriptors.Cur, maxDescriptors)) - 1
	if err := unix.Dup3(binaryFD, binary, unix.O_CLOEXEC); err != nil {
		return 0, fmt.Errorf("move the descriptor of the binary: %w", err)
	}
	unix.Close(binaryFD)
	return binary, limitTo(unix.RLIMIT_NOFILE, uint64(binary))
}

// limitTo lowers a limit, hard and soft.
func limitTo(resource int, limit uint64) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(resource, &now); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	limit = min(limit, now.Max)
	if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		return fmt.Errorf("setrlimit: %w", err)
	}
	return nil
}

// dropPrivileges acts on the calling thread alone: it is the one that execs. capabilities(7) has the order.
func (r *restrictions) dropPrivileges() error {
	keep, err := parseCapabilities(r.Capabilities)
	if err != nil {
		return err
	}
	if err := dropBoundingSet(keep); err != nil {
		return err
	}
	const noRoot = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<5 // NOROOT, NO_SETUID_FIXUP, both locked; KEEP_CAPS locked at 0
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, noRoot, 0, 0, 0); err != nil {
		return fmt.Errorf("securebits: %w", err)
	}
	if err := setIDs(r.ID); err != nil {
		return err
	}
	if err := keepCapabilities(keep); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	return nil
}

// setIDs leaves the thread no group but its own.
func setIDs(id int) error {
	if err := linux.SetThreadGroups(nil); err != nil {
		return err
	}
	if err := linux.SetThreadGID(uint32(id)); err != nil {
		return err
	}
	return linux.SetThreadUID(uint32(id))
}

// exec executes the binary that the broker opened and checked, whatever stands at its path by now.
func (r *restrictions) exec(binary int) error {
	argv, err := syscall.SlicePtrFromStrings(r.Args)
	if err != nil {
		return err
	}
	envv, err := syscall.SlicePtrFromStrings(os.Environ())
	if err != nil {
		return err
	}
	empty := [1]byte{}
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, uintptr(binary), uintptr(unsafe.Pointer(&empty[0])),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])), unix.AT_EMPTY_PATH, 0)
	if errno == unix.ENOENT { // of a script too: execveat(2), BUGS
		return fmt.Errorf("execute %s: its dynamic loader is missing, or it is a script, which can interpret no other: %w", r.Args[0], errno)
	}
	return fmt.Errorf("execute %s: %w", r.Args[0], errno)
}
