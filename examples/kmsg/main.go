// Intercede-plugin-kmsg gives containers a /dev/kmsg that is in the plugin's log; see README.md.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

func main() { sdk.Serve(handler{}) }

const path = "/dev/kmsg"

type config struct {
	Read bool `json:"read" help:"answer who opens it for reading too: every open for reading is then intercepted"`
}

type handler struct{}

// Manifest implements sdk.Handler. The kernel cannot tell the path, which is in the caller's memory, but the flags:
// what is opened for reading, and that is most, does not leave the kernel.
func (handler) Manifest() sdk.Manifest {
	return sdk.Manifest{
		Name: "kmsg", Version: "1.0.0", Description: "gives containers a /dev/kmsg that is in the plugin's log",
		Syscalls:  []sdk.Syscall{takes("open", 0), takes("openat", 1)},
		Settings:  sdk.SettingsOf(config{}),
		OnFailure: sdk.FailContinue(), // the kernel asks who opens what
	}
}

// takes declares a call whose path is this argument and whose flags are the next.
func takes(name string, path int) sdk.Syscall {
	flags := path + 1
	return sdk.Syscall{
		Name: name, Reads: []sdk.Read{sdk.ReadPath(path)}, Repeat: sdk.RepeatSafe,
		Captures: []sdk.Capture{sdk.CaptureCredentials},
		When: []sdk.Match{
			{{Arg: flags, Mask: unix.O_ACCMODE | unix.O_PATH, Value: unix.O_WRONLY}},
			{{Arg: flags, Mask: unix.O_ACCMODE | unix.O_PATH, Value: unix.O_RDONLY}, {Setting: "read"}},
		},
		Arguments: append(make([]sdk.Argument, path), sdk.Argument{Name: "path"}, sdk.Argument{Name: "flags"}),
	}
}

// Attach implements sdk.Handler.
func (handler) Attach(_ context.Context, c sdk.Container, _ sdk.Settings) (sdk.Session, error) {
	s := &session{}
	var err error
	if s.logged, err = newPipe(); err != nil {
		return nil, err
	}
	if s.silent, err = newPipe(); err != nil {
		s.logged.close()
		return nil, err
	}
	go follow(s.logged.read, c.Log(), pace)
	return s, nil
}

// session is a container. All who open its /dev/kmsg share two pipes, whatever their number: so what a container can
// make this process hold does not grow.
type session struct {
	logged pipe // what is written goes into the log
	silent pipe // nothing is ever written
}

// Close implements io.Closer. The pipes of callers stay open: writing fails then, and reading says that it is over.
func (s *session) Close() error {
	s.logged.close()
	s.silent.close()
	return nil
}

// Handle implements sdk.Session.
func (s *session) Handle(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	argument := 0
	if req.Syscall == "openat" {
		argument = 1
	}
	name, fault := req.Path(argument)
	flags := int(req.Int32(argument + 1))
	if fault != 0 || name != path || flags&(unix.O_DIRECTORY|unix.O_EXCL) != 0 {
		return sdk.Next(), nil // the kernel has the errno, and all other files
	}
	if may, err := req.Privileged(ctx, target.Capability(unix.CAP_SYSLOG)); !may || err != nil {
		return sdk.Next(), err
	}
	end := s.silent.read
	if flags&unix.O_ACCMODE == unix.O_WRONLY {
		end = s.logged.write
	}
	file, err := reopen(end, flags&(unix.O_ACCMODE|unix.O_NONBLOCK))
	if err != nil {
		return sdk.Response{}, err
	}
	return sdk.AddFD(file, flags&unix.O_CLOEXEC != 0), nil
}

// reopen opens a pipe's end anew, so that its flags are the caller's alone: a duplicate would share them with the
// others.
func reopen(end *os.File, flags int) (*os.File, error) {
	raw, err := end.SyscallConn()
	if err != nil {
		return nil, err
	}
	opened := -1
	if controlErr := raw.Control(func(fd uintptr) {
		opened, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), flags|unix.O_CLOEXEC, 0)
	}); controlErr != nil {
		return nil, controlErr // the container is gone
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(opened), path), nil
}
