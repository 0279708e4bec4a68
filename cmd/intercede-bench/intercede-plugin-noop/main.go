// Command intercede-plugin-noop takes getppid(2) and leaves it to the kernel at once: a plugin that costs what every
// plugin costs, which intercede-bench measures. It takes getpgid(2) too, and leaves it to the kernel a second later. It
// is of no other use.
package main

import (
	"context"
	"time"

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
		Description: "leaves getppid to the kernel at once, getpgid after a second; intercede-bench measures it",
		Syscalls:    []sdk.Syscall{{Name: "getppid"}, {Name: "getpgid"}},
		OnFailure:   sdk.FailContinue(),
	}
}

// Attach implements sdk.Handler.
func (handler) Attach(context.Context, sdk.Container, sdk.Settings) (sdk.Session, error) {
	return session{}, nil
}

// session implements sdk.Session.
type session struct{}

// slow is how long getpgid takes.
const slow = time.Second

// Handle implements sdk.Session. Continue is safe: neither call has a pointer or changes anything.
func (session) Handle(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	if req.Syscall == "getpgid" {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return sdk.Response{}, sdk.ErrGone
		}
	}
	return sdk.Continue(), nil
}

// Close implements sdk.Session.
func (session) Close() error { return nil }
