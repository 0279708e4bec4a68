package sdktest

import (
	"reflect"
	"testing"

	"github.com/intercede/intercede/sdk"
)

// Pair is a container whose calls a plugin answers, and one in which root is the host's: what an intercepted call should
// come to.
type Pair struct {
	Container, Host *Container

	// Call runs a script in one of them: Container.Call (nil, too) or Container.Call32.
	Call func(*Container, testing.TB, ...string) Result

	// Alike takes out of what a caller printed that which differs from process to process, such as addresses. nil: nothing.
	Alike func([]Line) []Line
}

// NewPair makes both containers with these options.
func NewPair(t testing.TB, h sdk.Handler, options ...Option) *Pair {
	t.Helper()
	return &Pair{
		Container: NewContainer(t, h, options...),
		Host:      NewContainer(t, nil, append(options[:len(options):len(options)], WithRealRoot())...),
	}
}

// Compare runs the script in both containers. It fails the test unless both callers print the same, with the errors want
// ("ok EEXIST", see Errnos), and the calls that were notified were answered by kinds ("value errno", see Result.Kinds).
func (p *Pair) Compare(t testing.TB, want, kinds string, script ...string) {
	t.Helper()
	call := p.Call
	if call == nil {
		call = (*Container).Call
	}
	result := call(p.Container, t, script...)
	got, root := result.Lines(t), call(p.Host, t, script...).Lines(t)
	if errnos := Errnos(root); errnos != want {
		t.Errorf("real root gets %s, want %s", errnos, want)
	}
	if errnos := Errnos(got); errnos != want {
		t.Errorf("the caller gets %s, want %s", errnos, want)
	}
	if p.Alike != nil {
		got, root = p.Alike(got), p.Alike(root)
	}
	if !reflect.DeepEqual(got, root) {
		t.Errorf("the caller gets\n%+v\nreal root gets\n%+v", got, root)
	}
	if result.Kinds() != kinds {
		t.Errorf("the calls were answered by %q, want %q", result.Kinds(), kinds)
	}
}
