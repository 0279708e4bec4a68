// Command intercede-plugin-noop takes getppid(2) and leaves it to the kernel at once: a plugin that costs what every
// plugin costs, which `intercede bench` measures. It is of no other use.
package main

import (
	"context"

	"github.com/intercede/intercede/sdk"
)

func main() { sdk.Serve(handler{}) }

// handler implements sdk.Handler.
type handler struct{}

// Manifest implements sdk.Handler.
func (handler) Manifest() sdk.Manifest {
	return sdk.Manifest{
		Name:        "noop",
		Version:     "0.1.0",
		Description: "leaves getppid to the kernel at once; intercede bench measures it",
		Syscalls:    []sdk.Syscall{{Name: "getppid"}},
		OnFailure:   sdk.FailContinue(),
	}
}

// Attach implements sdk.Handler.
func (handler) Attach(context.Context, sdk.Container, sdk.Settings) (sdk.Session, error) {
	return session{}, nil
}

// session implements sdk.Session.
type session struct{}

// Handle implements sdk.Session. Continue is safe: getppid(2) has no arguments and changes nothing.
func (session) Handle(context.Context, *sdk.Request) (sdk.Response, error) {
	return sdk.Continue(), nil
}

// Close implements sdk.Session.
func (session) Close() error { return nil }
