package run

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// How Start re-executes the binary. The runtime's settings keep its other threads quiet until the execve: one
// processor, no garbage collection, no preemption signals to the filtered thread.
const (
	initName   = "intercede-container-init"
	initMark   = "INTERCEDE_CONTAINER_INIT"
	initValue  = "socket-3"
	initSocket = 3
)

var initEnv = []string{initMark + "=" + initValue, "GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1"}

// Init must be the first call of main in a program that calls [Start]. In the process that Start has executed, it
// becomes the container and does not return; in any other it returns at once.
func Init() {
	if !isInit() {
		return
	}
	runtime.LockOSThread()
	fail(becomeContainer())
}

func isInit() bool {
	if len(os.Args) != 1 || os.Args[0] != initName || os.Getenv(initMark) != initValue {
		return false
	}
	kind, err := unix.GetsockoptInt(initSocket, unix.SOL_SOCKET, unix.SO_TYPE)
	return err == nil && kind == unix.SOCK_STREAM && os.Getpid() == 1
}

// fail tells the caller and ends the container.
func fail(err error) {
	reason := &failure{Message: err.Error()}
	errors.As(err, &reason.Errno)
	var command *CommandError
	reason.Command = errors.As(err, &command)
	sendMessage(initSocket, report{Failure: reason})
	os.Exit(1)
}

// becomeContainer returns only with an error.
func becomeContainer() error {
	wanted, descriptors, err := receiveRequest()
	if err != nil {
		return err
	}
	if err := isolate(wanted); err != nil {
		return err
	}
	unix.Umask(0)
	dev, nodes := descriptors[0], descriptors[1:]
	root, sys, mounts, err := leaveStage(wanted)
	if err != nil {
		return err
	}
	if err := enterRoot(root, dev, sys, wanted.GIDs); err != nil {
		return err
	}
	unix.Umask(0o022)
	if err := errors.Join(layMounts(wanted.Mounts, mounts), layNodes(wanted.Nodes, nodes), checkSeen(wanted.Mounts)); err != nil {
		return err
	}
	account, err := lookupUser(wanted.User)
	if err != nil {
		return err
	}
	if err := account.check(wanted.UIDs, wanted.GIDs); err != nil {
		return err
	}
	if wanted.Terminal != [3]bool{} {
		if err := openTerminal(wanted, account.uid); err != nil {
			return err
		}
	}
	return execute(wanted, account)
}

// receiveRequest returns with the request the mounts that travel with it.
func receiveRequest() (wanted *request, mounts []*os.File, err error) {
	wanted = &request{}
	descriptors, err := receiveMessage(initSocket, wanted)
	if err != nil {
		return nil, nil, fmt.Errorf("receive the container's description: %w", err)
	}
	names := []string{"/dev"}
	for _, target := range wanted.Nodes {
		names = append(names, "a device node for "+target)
	}
	if len(descriptors) != len(names) {
		return nil, nil, fmt.Errorf("receive the container's mounts: %d descriptors instead of %d", len(descriptors), len(names))
	}
	for i, fd := range descriptors {
		mounts = append(mounts, os.NewFile(uintptr(fd), names[i]))
	}
	return wanted, mounts, nil
}

// isolate does what concerns no files.
func isolate(wanted *request) error {
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("make a cgroup namespace: %w", err)
	}
	if err := unix.Sethostname([]byte(wanted.Hostname)); err != nil {
		return fmt.Errorf("set the hostname %s: %w", wanted.Hostname, err)
	}
	// The caller's session keyring would give the container the keys that it possesses (session-keyring(7)).
	if _, err := unix.KeyctlJoinSessionKeyring("intercede-" + wanted.ID); err != nil && !errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("make a session keyring: %w", err)
	}
	return nil
}

// execute becomes the user and then the command.
func execute(wanted *request, account *user) error {
	env := mergeEnv([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + account.home,
		"HOSTNAME=" + wanted.Hostname,
		"container=intercede",
	}, wanted.Env)
	drop, err := parseCapabilities(wanted.CapDrop)
	if err != nil {
		return err
	}
	if err := become(account, drop); err != nil {
		return err
	}
	// A change of credentials clears the signal that Start has asked for (prctl(2)).
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("tie the container to intercede: %w", err)
	}
	if err := enterWorkdir(wanted.Workdir); err != nil {
		return fmt.Errorf("enter the working directory %s of the container: %w", wanted.Workdir, err)
	}
	path, err := lookupCommand(wanted.Args[0], env)
	if err != nil {
		return newCommandError(err)
	}
	launch, err := newLaunch(path, wanted.Args, env, wanted.Filter)
	if err != nil {
		return err
	}
	if err := unix.CloseRange(initSocket, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return explainKernel(fmt.Errorf("close descriptors: %w", err), "5.11")
	}
	if err := sendMessage(initSocket, report{Ready: true}); err != nil {
		return fmt.Errorf("report that the container is ready: %w", err)
	}
	if !limitsOn(wanted.Ulimits, unix.RLIMIT_NOFILE) {
		restoreDescriptorLimit()
	}
	if err := setUlimits(wanted.Ulimits); err != nil {
		return err
	}
	return launch.run()
}

// enterWorkdir follows no link of /proc: one could lead to a file of the host that is open here.
func enterWorkdir(path string) error {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	dir, err := unix.Openat2(unix.AT_FDCWD, path, &how)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return unix.Fchdir(dir)
}

// restoreDescriptorLimit undoes the raise of RLIMIT_NOFILE's soft limit that every Go program starts with. Only
// syscall.Exec knows the limit from before; it restores it and then fails, as there is no file of this name.
func restoreDescriptorLimit() {
	syscall.Exec("", nil, nil)
}
