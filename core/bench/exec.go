package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/sdk/notify"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// execute answers mknodat(2) as daemons do that have no plugins: it executes a program for each call, which enters the
// caller's place and makes the node. The arguments are those with which this program calls MakeNode.
type execute struct {
	command []string
}

// Attach starts the thread that answers. It ends as bare's does.
func (e execute) Attach(_ context.Context, listener *os.File, _ container.Claim) error {
	go func() {
		defer listener.Close()
		fd := notify.FD(listener.Fd())
		var n notify.Notification
		for {
			err := fd.Receive(&n)
			if err == nil {
				err = fd.SendErrno(n.ID, e.makeNode(&n))
			}
			if err != nil && !goesOn(fd, err) {
				return
			}
		}
	}()
	return nil
}

// Close does nothing.
func (execute) Close() {}

// makeNode executes the program. An errno of 0 is success.
func (e execute) makeNode(n *notify.Notification) unix.Errno {
	path, errno := target.ReadString(int(n.TID), n.Args[1], unix.PathMax)
	if errno != 0 {
		return errno
	}
	number := func(v uint64) string { return strconv.FormatUint(v, 10) }
	args := append(e.command[:len(e.command):len(e.command)], number(uint64(n.TID)), string(path), number(n.Args[2]), number(n.Args[3]))
	command := exec.Command("/proc/self/exe", args...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := command.Run(); err != nil {
		return unix.EPERM
	}
	return 0
}

// MakeNode makes a node as the thread tid would; mode and device as mknod(2) has them.
func MakeNode(tid int, path string, mode uint32, device int) error {
	caller, err := target.Open(tid)
	if err != nil {
		return err
	}
	defer caller.Close()
	err = caller.Do(target.CapabilitySet(unix.CAP_MKNOD), func() error { return unix.Mknod(path, mode, device) })
	if err != nil {
		return fmt.Errorf("mknod %q as thread %d: %w", path, tid, err)
	}
	return nil
}
