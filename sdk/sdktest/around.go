package sdktest

import (
	"context"
	"sync"
	"testing"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// Around is a handler each of whose notifications goes to Handle, which may hand it to next, the handler's own session:
// for what a test does just before the plugin's work, or after it.
type Around struct {
	sdk.Handler
	Handle func(ctx context.Context, req *sdk.Request, next sdk.Session) (sdk.Response, error)
}

// Attach attaches a container to the handler.
func (a Around) Attach(ctx context.Context, container sdk.Container, settings sdk.Settings) (sdk.Session, error) {
	next, err := a.Handler.Attach(ctx, container, settings)
	if checker, ok := next.(sdk.Checker); ok {
		return aroundChecker{aroundSession{next, a}, checker}, err
	}
	return aroundSession{next, a}, err
}

// Validate has the handler, if it is a Validator, say what is wrong with settings.
func (a Around) Validate(settings sdk.Settings) []sdk.Finding { return validate(a.Handler, settings) }

// aroundChecker is the session of a handler that checks calls.
type aroundChecker struct {
	aroundSession
	sdk.Checker
}

type aroundSession struct {
	sdk.Session
	around Around
}

func (s aroundSession) Close() error { return closeSession(s.Session) }

func (s aroundSession) Handle(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	return s.around.Handle(ctx, req, s.Session)
}

// Hold is a handler that holds one notification until its caller is gone, for tests of what a caller leaves behind that
// is killed at that moment. Make one with NewHold.
type Hold struct {
	Around
	once sync.Once
	held chan struct{}
}

// Moment is when a notification is held.
type Moment string

const (
	BeforeWork Moment = "before"
	AfterWork  Moment = "after"
)

// NewHold holds, before or after the handler's work, the first notification that the function wants; nil wants any. The
// handler is not told by its context that the caller is gone: it has to find out, as it would where its work had begun.
func NewHold(h sdk.Handler, when Moment, wants func(*sdk.Request) bool) *Hold {
	hold := &Hold{held: make(chan struct{})}
	hold.Around = Around{h, func(ctx context.Context, req *sdk.Request, next sdk.Session) (sdk.Response, error) {
		wanted := wants == nil || wants(req)
		if wanted && when == BeforeWork {
			hold.untilGone(ctx)
		}
		response, err := next.Handle(context.WithoutCancel(ctx), req)
		if wanted && when == AfterWork {
			hold.untilGone(ctx)
		}
		return response, err
	}}
	return hold
}

func (h *Hold) untilGone(ctx context.Context) {
	h.once.Do(func() {
		close(h.held)
		<-ctx.Done()
	})
}

// KillCaller runs a script in a container of this handler, and kills the caller when the notification is held.
func (h *Hold) KillCaller(t testing.TB, c *Container, script ...string) {
	t.Helper()
	p := c.Start(t, c.Install(t, Caller(t)), script...)
	<-h.held
	p.Kill(t)
	if result := p.Wait(t); result.Signal != unix.SIGKILL {
		t.Errorf("the caller ended by %v", result.Signal)
	}
}
