package lxc

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errUnknown means that it cannot be told whether the monitor waits.
var errUnknown = errors.New("whether the monitor waits for an answer cannot be told")

const (
	// waitsLimit bounds how long a monitor is looked at that goes on meanwhile.
	waitsLimit = time.Second
	waitsPause = time.Millisecond
)

// Waits reports whether the monitor waits for the answer to a packet that was received before, by another process: one
// too many would be taken for the answer to the next packet. It has one thread, which waits in recvmsg(2) for answers,
// and elsewhere for calls (proc_pid_syscall(5)). The next packet is there before it waits for the answer to that.
func (c *Connection) Waits() (bool, error) {
	for end := time.Now().Add(waitsLimit); time.Now().Before(end); time.Sleep(waitsPause) {
		receives, blocked, err := c.looksAt()
		if err != nil {
			return false, err
		}
		coming, err1 := unix.IoctlGetInt(c.FD(), unix.SIOCINQ)
		going, err2 := unix.IoctlGetInt(c.FD(), unix.SIOCOUTQ)
		switch err := errors.Join(err1, err2); {
		case err != nil:
			return false, err
		case coming > 0:
			return false, nil // it sends the next one when it has the answer
		case going == 0 && blocked:
			return receives, nil
		}
	}
	return false, errUnknown
}

// looksAt reports whether the monitor is blocked in a system call, and whether in one that receives.
func (c *Connection) looksAt() (receives, blocked bool, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", c.Peer.Pid))
	if err != nil {
		return false, false, err
	}
	name, _, _ := strings.Cut(string(text), " ")
	number, err := strconv.Atoi(name)
	if err != nil { // "running"
		return false, false, nil
	}
	return number == unix.SYS_RECVMSG || number == unix.SYS_RECVFROM, number >= 0, nil
}

// Release has LXC go on with a packet that was received before and whose caller is gone.
func (c *Connection) Release(data *[ReplySize]byte, id uint64) error {
	return c.send(encodeReply(data[:], response{ID: id, Errno: -int32(unix.ENOSYS)}))
}
