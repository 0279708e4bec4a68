// Intercede-plugin-hostname gives programs the host name that the config says; see README.md.
package main

import (
	"context"
	"encoding/binary"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

func main() { sdk.Serve(plugin) }

type config struct {
	Name string `json:"name" help:"the host name that programs see; empty: their own" pattern:"[A-Za-z0-9.-]{0,64}" example:"web1.test"`
}

var plugin = sdk.Func(sdk.Manifest{
	Name: "hostname", Version: "1.0.0", Description: "gives programs the host name that the config says",
	Syscalls: []sdk.Syscall{
		{Name: "uname", If: []string{"name"}, Arguments: []sdk.Argument{{Name: "buf"}}, Repeat: sdk.RepeatSafe},
		{Name: "sethostname", If: []string{"name"}, Repeat: sdk.RepeatSafe},
	},
	OnFailure: sdk.FailContinue(), // uname(2) needs no privilege, and the kernel checks who sets the name
}, config{}, handle)

func handle(_ context.Context, req *sdk.Request, c *config) (sdk.Response, error) {
	if req.Syscall == "sethostname" {
		return sdk.Errno(unix.EPERM), nil // the name is the operator's
	}
	var host unix.Utsname
	if err := unix.Uname(&host); err != nil {
		return sdk.Response{}, err
	}
	host.Nodename, host.Domainname = [65]byte{}, [65]byte{}
	copy(host.Nodename[:64], c.Name)
	copy(host.Domainname[:], "(none)")
	text, err := binary.Append(nil, binary.NativeEndian, &host)
	return sdk.Return(0).Write(req.Pointer(0), text), err
}
