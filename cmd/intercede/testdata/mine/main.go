// A plugin of somebody else's: it takes a call that a plugin of the project takes too, and makes one that no plugin of
// the project makes.
package main

import (
	"context"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

func main() { sdk.Serve(handler{}) }

type handler struct{}

func (handler) Manifest() sdk.Manifest {
	return sdk.Manifest{
		Name: "mine", Version: "1", Description: "says EXDEV to mknod, and what of the kernel's log is unread",
		Syscalls: []sdk.Syscall{
			{Name: "mknod"}, {Name: "mknodat"},
			{Name: "syslog", When: []sdk.Match{{{Arg: 0, Mask: 0xffffffff, Value: unix.SYSLOG_ACTION_SIZE_UNREAD}}}},
		},
		Capabilities: []string{"CAP_SYSLOG"},
		Uses:         sdk.Uses{Syscalls: []string{"syslog"}},
		OnFailure:    sdk.FailContinue(),
	}
}

func (handler) Attach(context.Context, sdk.Container, sdk.Settings) (sdk.Session, error) {
	return session{}, nil
}

type session struct{}

func (session) Handle(_ context.Context, req *sdk.Request) (sdk.Response, error) {
	if req.Syscall != "syslog" {
		return sdk.Errno(unix.EXDEV), nil
	}
	size, err := unix.Klogctl(unix.SYSLOG_ACTION_SIZE_UNREAD, nil)
	return sdk.Return(int64(size)), err
}
