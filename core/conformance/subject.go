package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/conformance/caller"
	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/daemon"
	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/core/single"
	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

const (
	// overDeadline is how long after a plugin's deadline a call is waited for.
	overDeadline = 20 * time.Second
	// settleTime bounds the wait for something that is over, and has only to be noticed.
	settleTime = 5 * time.Second
)

// subject is the plugin, running, with one way to it.
type subject struct {
	options   Options
	plugin    *single.Plugin
	transport string
	engine    *daemon.Engine
	filter    []unix.SockFilter
	limit     time.Duration // for a call
	log       *words
	seen      records

	container *caller.Container // nil: the next check starts one
	restarts  int               // of the plugin that are accounted for
	broken    string            // why nothing more is to be learnt from this plugin; empty: it is not so
}

// records are what the broker recorded of the calls since the last take.
type records struct {
	mu  sync.Mutex
	all []record
}

// record is what is kept of one.
type record struct {
	syscall string
	args    [allArgs]uint64
	kind    audit.Kind
	errno   unix.Errno
	err     error
}

// observe is called by the thread that has answered the call.
func (r *records) observe(c audit.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, record{c.Syscall, c.Notification.Args, c.Outcome.Kind, c.Outcome.Errno, c.Outcome.Err})
}

func (r *records) take() []record {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.all
	r.all = nil
	return taken
}

// newSubject starts the plugin.
func newSubject(ctx context.Context, p *single.Plugin, transport string, options Options) (*subject, error) {
	s := &subject{options: options, plugin: p, transport: transport, log: &words{}}
	s.limit = p.Setup.Policy.Plugins[0].Timeout + overDeadline
	var err error
	if s.filter, err = filter.Program(notReserved(p.Setup.Manifests), run.ReservedSyscalls()); err != nil {
		return nil, err
	}
	if s.engine, err = p.Start(ctx, options.Log.Hook(s.log)); err != nil {
		return nil, err
	}
	s.engine.Observe(s.seen.observe)
	return s, nil
}

// notReserved are the manifests without the calls that no container of `intercede run` can have intercepted.
func notReserved(manifests []*wire.Manifest) (left []*wire.Manifest) {
	for _, m := range manifests {
		some := &wire.Manifest{Name: m.GetName()}
		for _, s := range m.GetSyscalls() {
			if !slices.Contains(run.ReservedSyscalls(), s.GetName()) {
				some.Syscalls = append(some.Syscalls, s)
			}
		}
		left = append(left, some)
	}
	return left
}

// close stops the plugin.
func (s *subject) close() {
	s.dropContainer()
	if s.engine != nil {
		s.engine.Close()
		s.engine = nil
	}
}

// callers returns a container of callers, which it starts if there is none.
func (s *subject) callers(ctx context.Context) (*caller.Container, error) {
	if s.container != nil {
		return s.container, nil
	}
	var err error
	s.container, err = caller.Start(ctx, s.filter, s.limit, func(c *run.Container) error {
		if c.Listener() == nil {
			return errors.New("the container has no filter")
		}
		return s.engine.Attach(ctx, c.Listener(), container.Claim{
			ID: c.ID(), Runtime: config.RuntimeRun, CgroupsPath: run.CgroupsPath(c.ID()), PID: c.InitPID(),
		})
	})
	return s.container, err
}

// dropContainer ends the container of callers: nothing that it did counts against the next one.
func (s *subject) dropContainer() {
	if s.container != nil {
		s.container.Close()
		s.container = nil
	}
}

// status is the plugin's state.
func (s *subject) status() launcher.Status { return s.engine.Plugins()[0].Status() }

// settle waits until no call is being handled any more, and the plugin runs.
func (s *subject) settle() {
	s.await(func() bool { return s.inflight() == 0 && s.status().State == launcher.Running })
}

func (s *subject) inflight() (calls int) {
	for _, c := range s.engine.Broker.Status() {
		calls += c.Inflight
	}
	return calls
}

// await reports whether the condition holds before long.
func (s *subject) await(condition func() bool) bool { return s.within(settleTime, condition) }

// within reports whether the condition holds within the time.
func (s *subject) within(limit time.Duration, condition func() bool) bool {
	for began := time.Now(); time.Since(began) < limit; time.Sleep(time.Millisecond) {
		if condition() {
			return true
		}
	}
	return false
}

// failures says what of the calls since the last look went wrong, and whether the plugin's process has ended meanwhile;
// nil: nothing did.
func (s *subject) failures(calls []record) *Finding {
	s.settle()
	status := s.status()
	ended := status.Restarts > s.restarts
	s.restarts = status.Restarts
	for _, r := range calls {
		if r.err != nil {
			return s.explain(r, status)
		}
	}
	if ended {
		return &Finding{
			Status: Fail, Text: "the plugin's process ended, and was started again: " + status.Error,
			Next: "find out with --log-level info what it said before",
		}
	}
	return nil
}

// explain says why the plugin failed a call, and what its author can do.
func (s *subject) explain(r record, status launcher.Status) *Finding {
	f := &Finding{Status: Fail, Text: fmt.Sprintf("%s: %v", r, r.err)}
	switch {
	case errors.Is(r.err, launcher.ErrRefused):
		s.broken = "the plugin takes no container"
		f.Next = "Attach is to take every container, or give what it misses with --set"
	case errors.Is(r.err, launcher.ErrQuarantined):
		f.Next = "it follows from calls that hung before"
	case errors.Is(r.err, context.DeadlineExceeded):
		s.broken = "calls hang, and each would be waited for"
		f.Next = "Handle is to return when its context ends, at the latest"
	case errors.Is(r.err, lane.ErrDied), errors.Is(r.err, launcher.ErrDown):
		f.Text += ": " + status.Error
		f.Next = "find out with --log-level info what the process said before its end"
	default:
		f.Next = "answer with an errno, Next or Continue: an error is for what the plugin itself has wrong"
	}
	return f
}

// String is the call as the broker saw it.
func (r record) String() string {
	var args []string
	for _, a := range r.args {
		args = append(args, fmt.Sprintf("%#x", a))
	}
	return r.syscall + "(" + strings.Join(args, ", ") + ")"
}

// of are those of the records that are of the syscall.
func of(syscall string, all []record) []record {
	return slices.DeleteFunc(slices.Clone(all), func(r record) bool { return r.syscall != syscall })
}

// summary counts how calls were answered: "12 calls: 8 continue, 4 EFAULT".
func summary(calls []record) string {
	counts := map[string]int{}
	for _, r := range calls {
		kind := string(r.kind)
		if r.kind == audit.Errno {
			kind = errnoName(r.errno)
		}
		counts[kind]++
	}
	var parts []string
	for kind, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, kind))
	}
	slices.Sort(parts)
	return fmt.Sprintf("%d calls: %s", len(calls), joined(parts))
}

func errnoName(errno unix.Errno) string {
	if errno == 0 {
		return "success"
	}
	if name := unix.ErrnoName(errno); name != "" {
		return name
	}
	return fmt.Sprintf("errno %d", int(errno))
}
