package target_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

func ExampleCapabilitySet() {
	lent := target.CapabilitySet(unix.CAP_MKNOD, unix.CAP_FOWNER)
	fmt.Println(lent, lent.Has(unix.CAP_SYS_ADMIN))
	// Output: CAP_FOWNER, CAP_MKNOD false
}

// Two files of the same namespace have the same identity.
func ExampleStatNamespace() {
	own, err := target.StatNamespace("/proc/self/ns/user")
	if err != nil {
		fmt.Println(err)
		return
	}
	same, err := target.StatNamespace("/proc/thread-self/ns/user")
	fmt.Println(own == same, err)
	// Output: true <nil>
}

// The caller's mknod(2), with the one capability that it lacks: the kernel resolves the path as it does for the caller,
// and asks for the caller's permissions. The node is the caller's own.
func ExampleTarget_Do() {
	mknod := func(caller *target.Target, path string, mode uint32, device int) error {
		return caller.Do(target.CapabilitySet(unix.CAP_MKNOD), func() error {
			parent, entry, err := target.OpenParentHere(unix.AT_FDCWD, path)
			if err != nil {
				return err
			}
			defer unix.Close(parent)
			return unix.Mknodat(parent, entry, mode, device)
		})
	}
	_ = mknod
}

// A thread by its id, here this process's own first one. It takes CAP_SYS_PTRACE to open one of others.
func ExampleOpen() {
	t, err := target.Open(os.Getpid())
	if errors.Is(err, os.ErrProcessDone) {
		return // it has ended
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	defer t.Close()
	credentials, err := t.Credentials()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(int(credentials.UIDs.Effective) == os.Geteuid(), credentials.TGID == os.Getpid())
	// Output: true true
}

// What a thread of a Go program cannot do is done by a process that makes system calls alone: here it joins the user
// namespace of the caller, and makes a mount namespace there.
func ExampleSteps() {
	detach := func(ctx context.Context, caller *target.Target) error {
		id, err := caller.UserNamespace()
		if err != nil {
			return err
		}
		user, err := caller.OpenUserNamespace()
		if err != nil {
			return err
		}
		defer unix.Close(user)
		var steps target.Steps
		steps.KeepOpen(user)
		steps.Add("setns", unix.SYS_SETNS, user, unix.CLONE_NEWUSER)
		steps.Add("unshare", unix.SYS_UNSHARE, unix.CLONE_NEWNS)
		err = steps.Run(ctx, id)
		var failed *target.StepError
		if errors.As(err, &failed) {
			return fmt.Errorf("%s: %w", failed.What, failed.Errno)
		}
		return err
	}
	_ = detach
}
