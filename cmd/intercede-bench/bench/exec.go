package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"unsafe"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// execute answers calls as daemons do that have no plugins: it executes a program for each, which enters the caller's
// place and performs the call. The arguments are those with which this program calls Perform.
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
				err = fd.SendErrno(n.ID, e.perform(&n))
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

// perform executes the program. An errno of 0 is success.
func (e execute) perform(n *notify.Notification) unix.Errno {
	args := append(slices.Clone(e.command), strconv.Itoa(int(n.TID)), strconv.Itoa(int(n.NR)))
	for _, register := range n.Args {
		args = append(args, strconv.FormatUint(register, 10))
	}
	if err := exec.Command("/proc/self/exe", args...).Run(); err != nil {
		return unix.EPERM
	}
	return 0
}

// Perform performs the call nr, with these registers, for the thread tid.
func Perform(tid, nr int, args [6]uint64) error {
	thread, err := target.Open(tid)
	if err != nil {
		return err
	}
	defer thread.Close()
	text := func(arg int) string {
		read, errno := linux.AppendString(nil, tid, args[arg], unix.PathMax)
		if errno != 0 {
			err = errno
		}
		return string(read)
	}
	lent, act := target.CapabilitySet(unix.CAP_SYS_ADMIN), func() error { return unix.ENOSYS }
	switch nr {
	case unix.SYS_MKNODAT:
		path := text(1)
		lent, act = target.CapabilitySet(unix.CAP_MKNOD), func() error { return unix.Mknod(path, uint32(args[2]), int(args[3])) }
	case unix.SYS_SETXATTR:
		path, name, value := text(0), text(1), []byte{0}
		if errno := linux.ReadMemory(tid, args[2], value); errno != 0 {
			err = errno
		}
		act = func() error { return unix.Setxattr(path, name, value, 0) }
	case unix.SYS_MOUNT:
		source, dir, kind := text(0), text(1), text(2)
		act = func() error { return unix.Mount(source, dir, kind, uintptr(args[3]), "") }
	case unix.SYS_SCHED_SETSCHEDULER:
		return setScheduler(thread, args)
	case unix.SYS_SYSINFO:
		return writeSysinfo(tid, args[0])
	}
	if err != nil {
		return fmt.Errorf("memory of thread %d: %w", tid, err)
	}
	return thread.Do(lent, act)
}

// writeSysinfo tells the thread what the host would be told.
func writeSysinfo(tid int, address uint64) error {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return err
	}
	if errno := linux.WriteMemory(tid, address, unsafe.Slice((*byte)(unsafe.Pointer(&info)), unsafe.Sizeof(info))); errno != 0 {
		return errno
	}
	return nil
}

func setScheduler(caller *target.Target, args [6]uint64) error {
	thread, err := caller.Thread(int(args[0]))
	if err != nil {
		return err
	}
	defer thread.Close()
	return unix.SchedSetAttr(thread.TID(), &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: uint32(args[1]), Priority: 10}, 0)
}
