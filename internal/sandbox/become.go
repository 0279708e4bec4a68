// Package sandbox runs a plugin's process: with a user of its own, the capabilities that it declares and no others, no
// network, and a filter of the system calls that no plugin needs. What starts a plugin calls Init first.
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
	binaryFD   = 3 // the plugin's binary, opened and checked by the broker
	lifelineFD = 4
	lanesFD    = 5
)

// restrictions are what a plugin process may be. They travel as JSON in argv[1].
type restrictions struct {
	Name         string   // argv[0] of the plugin
	Args         []string // the plugin's arguments
	ID           int      // user and group id
	Capabilities []string // bounding, permitted, effective, inheritable and ambient: these and no others
	Lifeline     bool     // it has one, and a socket for lanes
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
	if err := beKilledEarlier(); err != nil {
		return err
	}
	if err := r.dropPrivileges(); err != nil {
		return err
	}
	if err := r.denySyscalls(); err != nil {
		return err
	}
	// The plugin's own watch of its lifeline is its own good will.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("signal at the broker's death: %w", err)
	}
	return r.exec()
}

// closeDoors leaves the plugin no descriptor, directory or limit of the broker's.
func (r *restrictions) closeDoors() error {
	null, err := unix.Open("/dev/null", unix.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open /dev/null: %w", err)
	}
	if err := unix.Dup3(null, 0, 0); err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	last := binaryFD
	if r.Lifeline {
		last = lanesFD
	}
	if err := unix.CloseRange(uint(last)+1, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	unix.CloseOnExec(binaryFD)
	if err := setLimits(); err != nil {
		return err
	}
	unix.Umask(0o077)
	return os.Chdir("/")
}

// maxThreads bounds the threads of a plugin's user: above what the Go runtime has at most for one process (10,000), for
// several brokers.
const maxThreads = 1 << 16

// setLimits leaves no core dumps, which would be written as root, and bounds what a plugin can make of itself.
func setLimits() error {
	for resource, limit := range map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_NPROC: maxThreads} {
		var now unix.Rlimit
		if err := unix.Getrlimit(resource, &now); err != nil {
			return fmt.Errorf("getrlimit: %w", err)
		}
		limit = min(limit, now.Max)
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return fmt.Errorf("setrlimit: %w", err)
		}
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
func (r *restrictions) exec() error {
	argv, err := syscall.SlicePtrFromStrings(append([]string{r.Name}, r.Args...))
	if err != nil {
		return err
	}
	envv, err := syscall.SlicePtrFromStrings(os.Environ())
	if err != nil {
		return err
	}
	empty := [1]byte{}
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, binaryFD, uintptr(unsafe.Pointer(&empty[0])),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])), unix.AT_EMPTY_PATH, 0)
	if errno == unix.ENOENT { // execveat(2), BUGS: the interpreter could not open a close-on-exec descriptor
		return fmt.Errorf("execute %s: it is a script, or lacks its dynamic loader; a plugin is a binary: %w", r.Name, errno)
	}
	return fmt.Errorf("execute %s: %w", r.Name, errno)
}
