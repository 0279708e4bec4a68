package run

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// statusSignal is added to the number of the signal that killed the command, as sh does.
const statusSignal = 128

var pastDeadline = time.Unix(1, 0)

// Container is a container whose command has been executed. Its methods may be called from several goroutines.
type Container struct {
	id         string
	files      stdio
	process    *os.Process
	listener   *os.File
	cgroups    cgroups
	terminal   *terminal
	stopCancel func() bool
	stage      *os.File // the mount namespace in which the init starts; nil: it has none
	closing    sync.Once
	closeErr   error

	exited  chan struct{} // closed when the fields below are set
	status  int
	waitErr error
}

// ID is unique among containers: 16 hexadecimal digits.
func (c *Container) ID() string { return c.id }

// InitPID is the command's process in the pid namespace of the caller. The number may be another process's after Wait.
func (c *Container) InitPID() int { return c.process.Pid }

// Listener returns the seccomp listener, or nil where there is no filter. It belongs to the caller, who closes it;
// until then, the container's notified system calls wait.
func (c *Container) Listener() *os.File { return c.listener }

// Wait returns the command's exit status when the container has ended and all its terminal's output has been shown:
// 128 plus the signal's number if a signal killed it.
func (c *Container) Wait() (int, error) {
	<-c.exited
	if c.terminal != nil {
		return c.status, errors.Join(c.waitErr, c.terminal.disconnect())
	}
	return c.status, c.waitErr
}

// Signal sends a signal to the command. One that the command does not handle has no effect, except SIGKILL and SIGSTOP,
// since it is the first process of a pid namespace (pid_namespaces(7)). After the container's end it returns
// os.ErrProcessDone.
func (c *Container) Signal(signal os.Signal) error {
	return c.process.Signal(signal)
}

// forwarded are the signals that a user or a service manager sends to end, suspend or tell a program something. As
// with podman run, they are for the command alone.
var forwarded = []os.Signal{
	unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGCONT, unix.SIGTSTP,
}

// ForwardSignals passes SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT, SIGTSTP and, where the container
// has no terminal, SIGWINCH from the calling process to the command, until stop is called.
func (c *Container) ForwardSignals() (stop func()) {
	wanted := forwarded
	if c.terminal == nil {
		wanted = append([]os.Signal{unix.SIGWINCH}, forwarded...)
	}
	received := make(chan os.Signal, 16)
	done := make(chan struct{})
	signal.Notify(received, wanted...)
	go func() {
		defer close(done)
		for s := range received {
			c.Signal(s) // fails only when the container has ended
		}
	}()
	return sync.OnceFunc(func() {
		signal.Stop(received)
		close(received)
		<-done
	})
}

// Close kills the container if it still runs, and releases everything but the listener. Further calls return the
// same error.
func (c *Container) Close() error {
	c.closing.Do(func() { c.closeErr = c.release() })
	return c.closeErr
}

func (c *Container) release() error {
	if c.stopCancel != nil {
		c.stopCancel()
	}
	var failures []error
	if c.process != nil {
		c.kill()
		<-c.exited
		if c.terminal != nil {
			failures = append(failures, c.terminal.disconnect())
		}
	}
	failures = append(failures, c.cgroups.remove())
	return errors.Join(failures...)
}

// kill ends all processes of the container, since it ends the first one (pid_namespaces(7)). It fails only when that
// one has ended.
func (c *Container) kill() {
	c.process.Kill()
}

// exitStatus takes what Cmd.Wait returned.
func exitStatus(err error, command *exec.Cmd) (int, error) {
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, fmt.Errorf("wait for the container: %w", err)
	}
	status := command.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return statusSignal + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}
