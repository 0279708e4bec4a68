// A plugin that takes calls of 64-bit programs alone: it says EXDEV to all of them.
package main

import (
	"context"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

func main() {
	sdk.Serve(sdk.Func(sdk.Manifest{
		Name: "native", Version: "1", Description: "says EXDEV to 64-bit programs",
		Syscalls: []sdk.Syscall{
			{Name: "connect", Compat: sdk.CompatRefuse}, {Name: "accept", Compat: sdk.CompatRefuse},
			{Name: "semget", Compat: sdk.CompatRefuse}, {Name: "listen", Compat: sdk.CompatContinue},
			{Name: "sethostname", Compat: sdk.CompatRefuse}, {Name: "getsid", Compat: sdk.CompatContinue},
		},
		OnFailure: sdk.FailErrno(unix.EIO),
	}, struct{}{}, func(context.Context, *sdk.Request, *struct{}) (sdk.Response, error) {
		return sdk.Errno(unix.EXDEV), nil
	}))
}
