package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// childName is argv[0] of a process that tries something: this same program, executed again. argv[1] says what.
const childName = "intercede-doctor"

// trials are what a child can try. Each may leave its process in any state.
var trials = map[string]func() error{
	"notify":       tryNotify,
	"addfd":        tryAddFD,
	"sync-wake-up": trySyncWakeUp,
	"start":        func() error { return nil },
}

// Init makes one trial if this process was started for that, and does not return then.
func Init() {
	if len(os.Args) != 2 || os.Args[0] != childName {
		return
	}
	try, known := trials[os.Args[1]]
	if !known {
		try = func() error { return fmt.Errorf("unknown trial %q", os.Args[1]) }
	}
	if err := try(); err != nil {
		fmt.Fprint(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// inChild makes a trial in a process of its own, with new namespaces as the flags say (clone(2)). The error is the
// trial's, or why there was none.
func inChild(ctx context.Context, trial string, namespaces uintptr) error {
	var stderr bytes.Buffer
	c := exec.CommandContext(ctx, "/proc/self/exe")
	c.Args = []string{childName, trial}
	c.Env = []string{}
	c.Stderr = &stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Pdeathsig: syscall.SIGKILL}
	// The kernel sends the signal of Pdeathsig when the thread ends that started the child, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := c.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("no answer within %s", probeTimeout)
	}
	if text := strings.TrimSpace(stderr.String()); err != nil && text != "" {
		return errors.New(text)
	}
	return err
}

// child is a probe's try by one trial.
func child(found, trial string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		if err := inChild(ctx, trial, 0); err != nil {
			return "", err
		}
		return found, nil
	}
}
