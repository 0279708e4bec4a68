package sandbox

import (
	"fmt"
	"syscall"
	"time"
)

const (
	// statusWait bounds the wait for the status of a process that is gone: a child of it may hold its output open.
	statusWait = time.Second
	// statusInterval is between looks for it: go-plugin, which waits for the process, tells nobody.
	statusInterval = time.Millisecond
)

// ending is how a process ended. It is not to be read before known is closed.
type ending struct {
	known  chan struct{}
	status *syscall.WaitStatus // nil: not known
	// starved: the kernel has killed tasks of its cgroup since memory was used up, or no cgroup tells.
	starved bool
}

// Ended is closed when the process is gone, and it is known how it ended.
func (p *Process) Ended() <-chan struct{} { return p.ending.known }

// learnStatus finds out the status of the process, which is gone.
func (p *Process) learnStatus() {
	defer close(p.ending.known)
	if p.client == nil {
		return
	}
	for end := time.Now().Add(statusWait); time.Now().Before(end); time.Sleep(statusInterval) {
		if p.client.Exited() {
			if status, ok := p.command.ProcessState.Sys().(syscall.WaitStatus); ok {
				p.ending.status = &status
			}
			return
		}
	}
}

// KilledFromOutside reports whether a process was ended by SIGKILL, and not by the kernel since memory was used up: by
// somebody with privilege on the host, or by Kill. It is called after Ended.
func (p *Process) KilledFromOutside() bool {
	status := p.ending.status
	return status != nil && status.Signal() == syscall.SIGKILL && !p.ending.starved
}

// Ending says how the process ended, as far as it is known.
func (p *Process) Ending() string {
	select {
	case <-p.ending.known:
	case <-time.After(10 * statusInterval):
		return "why is not known yet"
	}
	switch status := p.ending.status; {
	case status == nil:
		return "its status is not known"
	case status.Signaled():
		return fmt.Sprintf("signal: %v", status.Signal())
	default:
		return fmt.Sprintf("exit status %d", status.ExitStatus())
	}
}
