package keep

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// starterName is argv[0] of a process that is to become the broker: this same program, executed again. It sets what
// nobody else can: variables with its own process ID. The value of oom_score_adj, the path of the program and its
// arguments follow.
const starterName = "intercede-keep-starter"

// selfPID is the value of variables that are to have the process ID of the process itself.
const selfPID = "self"

// Init becomes a broker if this process was started to be one, and does not return then. Every program that calls [Run]
// calls it first in main.
func Init() {
	if len(os.Args) < 4 || os.Args[0] != starterName {
		return
	}
	runtime.LockOSThread() // the signal mask is the thread's
	fmt.Fprintln(os.Stderr, "intercede keep:", become(os.Args[1], os.Args[2], os.Args[3:]))
	os.Exit(127)
}

func become(oom, path string, args []string) error {
	score, err := strconv.Atoi(oom)
	if err != nil {
		return err
	}
	if err := linux.SetOOMScoreAdj(score); err != nil {
		return err
	}
	// A keeper that executed itself anew has signals blocked: see upgrade.
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &unix.Sigset_t{}, nil); err != nil {
		return fmt.Errorf("take signals: %w", err)
	}
	for _, variable := range []string{listenPID, watchdogPID} {
		if os.Getenv(variable) == selfPID {
			os.Setenv(variable, strconv.Itoa(os.Getpid()))
		}
	}
	return fmt.Errorf("executing %s: %w", path, syscall.Exec(path, args, os.Environ()))
}

// startProcess starts the command with descriptors after standard input, output and error, and returns its process ID.
// The caller waits for its end.
func startProcess(command, env []string, fds []int, oom int, attributes *syscall.SysProcAttr) (pid int, err error) {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return 0, err
	}
	files := []uintptr{0, 1, 2}
	for _, fd := range fds {
		files = append(files, uintptr(fd))
	}
	pid, err = syscall.ForkExec("/proc/self/exe", append([]string{starterName, strconv.Itoa(oom), path}, command...),
		&syscall.ProcAttr{Env: env, Files: files, Sys: attributes})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", path, err)
	}
	return pid, nil
}

// environment is this process's, without the variables that say what its own manager wants of it.
func environment() []string {
	var env []string
	for _, assignment := range os.Environ() {
		switch name, _, _ := strings.Cut(assignment, "="); name {
		case listenPID, listenFDs, listenNames, notifySocket, storeSize, watchdogTime, watchdogPID, stateVariable, fallbackVariable:
		default:
			env = append(env, assignment)
		}
	}
	return env
}
