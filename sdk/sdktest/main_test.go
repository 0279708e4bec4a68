package sdktest_test

import (
	"context"
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
)

func TestMain(m *testing.M) { sdktest.Main(m, confined{}) }

// handler is a plugin made of functions.
type handler struct {
	manifest sdk.Manifest
	attach   func(sdk.Container, sdk.Settings) error
	handle   func(context.Context, *sdk.Request) (sdk.Response, error)
}

func (h *handler) Manifest() sdk.Manifest { return h.manifest }

func (h *handler) Attach(_ context.Context, c sdk.Container, s sdk.Settings) (sdk.Session, error) {
	if h.attach != nil {
		if err := h.attach(c, s); err != nil {
			return nil, err
		}
	}
	return session{h}, nil
}

type session struct{ *handler }

func (s session) Handle(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	return s.handle(ctx, req)
}

func (session) Close() error { return nil }

// newHandler takes the syscalls and answers with handle; it fails with EIO.
func newHandler(handle func(context.Context, *sdk.Request) (sdk.Response, error), syscalls ...sdk.Syscall) *handler {
	return &handler{
		manifest: sdk.Manifest{Name: "trial", Version: "1", Syscalls: syscalls, OnFailure: sdk.FailErrno(5)},
		handle:   handle,
	}
}

// always answers with one response.
func always(r sdk.Response) func(context.Context, *sdk.Request) (sdk.Response, error) {
	return func(context.Context, *sdk.Request) (sdk.Response, error) { return r, nil }
}
