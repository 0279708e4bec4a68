package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/intercede/intercede/internal/cbpf"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/notify"
	"golang.org/x/sys/unix"
)

// answerTimeout is how long a trial waits for its own notification, in milliseconds.
const answerTimeout = 5000

// answer is what the filtered thread's call returned.
type answer struct {
	value uintptr
	errno unix.Errno
	err   error // the filter could not be loaded
}

// tryNotify lets a thread make a call that the filter notifies, and answers it.
func tryNotify() error {
	const value = 4711
	got, err := roundTrip(func(listener notify.FD, id uint64) error { return listener.SendValue(id, value) })
	if err != nil {
		return err
	}
	if got.errno != 0 || got.value != value {
		return fmt.Errorf("the notified call returned %d (%v), and not the answer", got.value, got.errno)
	}
	return nil
}

// tryAddFD answers with a descriptor.
func tryAddFD() error {
	got, err := roundTrip(func(listener notify.FD, id uint64) error {
		_, err := listener.SendFD(id, int(os.Stderr.Fd()), true)
		return err
	})
	if err != nil {
		return err
	}
	if got.errno != 0 {
		return fmt.Errorf("the notified call failed: %w", got.errno)
	}
	if _, err := unix.FcntlInt(got.value, unix.F_GETFD, 0); err != nil {
		return fmt.Errorf("the notified call returned %d, which is no descriptor: %w", got.value, err)
	}
	return nil
}

// trySyncWakeUp sets the flag before it answers.
func trySyncWakeUp() error {
	_, err := roundTrip(func(listener notify.FD, id uint64) error {
		if err := unix.IoctlSetInt(int(listener), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP); err != nil {
			return fmt.Errorf("SECCOMP_IOCTL_NOTIF_SET_FLAGS: %w", err)
		}
		return listener.SendValue(id, 0)
	})
	return err
}

// roundTrip filters a thread, which then makes a notified call, and lets respond answer that. The process is to end
// soon: the thread waits for ever if there was no answer.
func roundTrip(respond func(listener notify.FD, id uint64) error) (answer, error) {
	loaded := make(chan notify.FD, 1)
	returned := make(chan answer, 1)
	linux.GoOnThread(func() {
		listener, err := loadTrialFilter()
		if err != nil {
			returned <- answer{err: err}
			return
		}
		loaded <- listener
		value, _, errno := unix.Syscall(trialSyscall, 0, 0, 0)
		returned <- answer{value: value, errno: errno}
	})
	select {
	case got := <-returned:
		return got, got.err
	case listener := <-loaded:
		if err := respondOnce(listener, respond); err != nil {
			return answer{}, err
		}
		return <-returned, nil
	}
}

func respondOnce(listener notify.FD, respond func(listener notify.FD, id uint64) error) error {
	pending, _, err := listener.Poll(answerTimeout)
	if err != nil {
		return err
	}
	if !pending {
		return errors.New("the kernel gave no notification of the filtered call")
	}
	var n notify.Notification
	if err := listener.Receive(&n); err != nil {
		return err
	}
	return respond(listener, n.ID)
}

// trialSyscall is one that the Go runtime does not make.
const trialSyscall = unix.SYS_GETPPID

// loadTrialFilter filters the calling thread, which takes CAP_SYS_ADMIN or no_new_privs.
func loadTrialFilter() (notify.FD, error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("no_new_privs: %w", err)
	}
	program, err := cbpf.Notify(trialSyscall)
	if err != nil {
		return -1, err
	}
	listener, err := notify.Load(program, 0)
	if errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("this process is under a filter with a listener already, run doctor outside of it: %w", err)
	}
	return listener, err
}

func tryWaitKillable(context.Context) (string, error) {
	if err := notify.CheckWaitKillable(); err != nil {
		return "", err
	}
	return "taken", nil
}
