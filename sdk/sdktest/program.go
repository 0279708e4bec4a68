package sdktest

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/intercede/intercede/internal/notify"
	"golang.org/x/sys/unix"
)

// Descriptors of a program's stage.
const (
	programSocket = 3
	programRoot   = 4
)

// programEnv is the environment of a program in a container.
var programEnv = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}

// runProgram loads the filter and executes the program that the order names.
func runProgram() error {
	err := execute()
	return errors.Join(err, send(programSocket, report{Event: broken, Error: err.Error()}))
}

func execute() error {
	unix.CloseOnExec(programSocket)
	unix.CloseOnExec(programRoot)
	var o order
	if _, err := receive(programSocket, &o); err != nil {
		return err
	}
	if err := unix.Fchdir(programRoot); err != nil {
		return fmt.Errorf("fchdir to the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	runtime.LockOSThread()
	if len(o.Filter) > 0 {
		if err := load(o.Filter); err != nil {
			return err
		}
	}
	if err := unix.Exec(o.Path, append([]string{o.Path}, o.Args...), programEnv); err != nil {
		return fmt.Errorf("exec %s: %w", o.Path, err)
	}
	return nil
}

// load loads the filter on this thread. The listener is sent from another, whose calls it does not hold up.
func load(filter []unix.SockFilter) error {
	listener, err := notify.Load(filter, 0)
	if err != nil {
		return err
	}
	sent := make(chan error)
	go func() { sent <- send(programSocket, report{Event: filtered}, int(listener)) }()
	return <-sent
}
