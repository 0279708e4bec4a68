package container

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// End is the end of a container's first process, with which all of its pid namespace ends.
type End struct {
	pidfd *os.File
}

// WatchEnd begins to watch the first process. The error wraps os.ErrProcessDone if it is gone. The caller calls Wait.
func (c *Container) WatchEnd() (*End, error) {
	init, err := target.Open(c.InitPID)
	if err != nil {
		return nil, err
	}
	defer init.Close()
	pidfd, err := unix.PidfdOpen(c.InitPID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("pidfd_open of process %d: %w", c.InitPID, err)
	}
	end := &End{os.NewFile(uintptr(pidfd), "pidfd")}
	// The pid may have been another's since the container was looked at.
	if in, err := init.InUserNamespace(c.UserNamespace); err != nil || !in {
		end.pidfd.Close()
		return nil, fmt.Errorf("process %d: %w", c.InitPID, os.ErrProcessDone)
	}
	return end, nil
}

// Wait waits until the process has ended or ctx is done. It is called once.
func (e *End) Wait(ctx context.Context) {
	defer e.pidfd.Close()
	stop := context.AfterFunc(ctx, func() { e.pidfd.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := e.pidfd.SyscallConn()
	if err != nil {
		return
	}
	raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 && err == nil
	})
}
