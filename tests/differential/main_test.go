package differential

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/intercede/intercede/tests/stage"
	"golang.org/x/sys/unix"
)

const stagePrivate = "private"

// TestMain runs the tests in a mount namespace of their own, which what they mount ends with.
func TestMain(m *testing.M) {
	switch os.Getenv(stageEnv) {
	case stageTwin:
		fmt.Fprintln(os.Stderr, becomeTwin())
		os.Exit(1)
	case stagePrivate:
		os.Unsetenv(stageEnv)
		os.Exit(stage.Main(m, stage.Kinds{I386: true}))
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), stageEnv+"="+stagePrivate)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Go makes the mounts of the new namespace private.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "run the tests in a mount namespace of their own:", err)
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}
