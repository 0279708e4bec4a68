package conformance

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/conformance/caller"
	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/core/single"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// atOnce is how many threads make a call at the same time.
const atOnce = 100

// killDelays are how long after its begin a call's caller is killed: a call of a fast plugin takes 100 µs or less.
var killDelays = func() (delays []time.Duration) {
	for _, µs := range []time.Duration{0, 20, 40, 60, 80, 100, 130, 160, 250, 500, 1000, 3000} {
		delays = append(delays, µs*time.Microsecond)
	}
	return delays
}()

// testTransport starts the plugin, and makes all checks whose calls go one way.
func testTransport(ctx context.Context, p *single.Plugin, transport string, options Options) error {
	report := func(f Finding) {
		f.Transport = transport
		options.Report(f)
	}
	began := time.Now()
	s, err := newSubject(ctx, p, transport, options)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		report(Finding{
			Status: Fail, Check: "start", Text: err.Error(),
			Next: "see what it said, and what docs/security.md says of the sandbox: it has no files, no network, and what Uses asks for",
		})
		return nil
	}
	defer s.close()
	if transport == lanes && !s.status().Lanes {
		report(Finding{Status: Skip, Check: "all", Text: "the plugin takes no lanes: its calls go over gRPC"})
		return nil
	}
	report(Finding{Status: OK, Check: "start", Text: fmt.Sprintf("in %v, in the sandbox, with what the manifest asks for", time.Since(began).Round(time.Millisecond))})
	for _, weaker := range s.status().Weaker {
		report(Finding{Status: Warn, Check: "start", Text: "this host lacks something of the sandbox: " + weaker, Next: "test it on a host that has it too"})
	}
	routes, err := filter.Resolve(notReserved(p.Setup.Manifests))
	if err != nil {
		return err
	}
	for _, declared := range p.Setup.Manifests[0].GetSyscalls() {
		if s.broken == "" {
			s.testSyscall(ctx, declared, routes, report)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if s.broken != "" {
		report(Finding{Status: Skip, Check: "all others", Text: s.broken})
	} else {
		report(s.checkDescriptors(ctx, routes))
	}
	report(s.checkRefused())
	report(s.checkStop())
	return nil
}

// native and compat are the architectures of this machine, as seccomp names them.
var native, compat = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH],
	map[string]uint32{"amd64": unix.AUDIT_ARCH_I386, "arm64": unix.AUDIT_ARCH_ARM}[runtime.GOARCH]

// probeOf makes a probe; nil: the architecture does not have the call.
func probeOf(declared *wire.Syscall, routes filter.Routes, arch uint32) *probe {
	nr, ok := routes.Number(declared.GetName(), arch)
	if !ok {
		return nil
	}
	return &probe{syscall: declared, number: nr, compat: arch == compat}
}

// notMade are calls that no caller makes: each would be one caller more that goes on with the calls that are left.
var notMade = []string{"clone", "clone3", "fork", "vfork"}

// testSyscall makes all checks with one syscall.
func (s *subject) testSyscall(ctx context.Context, declared *wire.Syscall, routes filter.Routes, report func(Finding)) {
	say := func(check string, f Finding) {
		f.Syscall, f.Check = declared.GetName(), check
		report(f)
	}
	p := probeOf(declared, routes, native)
	switch {
	case slices.Contains(run.ReservedSyscalls(), declared.GetName()):
		say("all", Finding{Status: Skip, Text: "containers of intercede run, which make the calls, cannot have it intercepted", Next: "test it with an OCI runtime"})
		return
	case slices.Contains(notMade, declared.GetName()):
		say("all", Finding{Status: Skip, Text: "a call that makes a process is not made with made-up arguments", Next: "test it with sdktest"})
		return
	case p == nil:
		say("all", Finding{Status: Skip, Text: "64-bit programs of this machine do not have the call"})
		return
	}
	for _, check := range []struct {
		name string
		make func(*caller.Container, *probe) (Finding, error)
	}{
		{"pointers", s.checkPointers},
		{"32-bit caller", func(c *caller.Container, _ *probe) (Finding, error) {
			return s.checkCompat(c, probeOf(declared, routes, compat))
		}},
		{"killed before", s.checkKilledBefore},
		{"killed during", s.checkKilledDuring},
		{"nested namespace", s.checkNested},
		{"100 at once", s.checkAtOnce},
		{"repeat", func(_ *caller.Container, p *probe) (Finding, error) { return s.checkRepeat(ctx, p) }},
	} {
		say(check.name, s.make(ctx, p, check.make))
		if s.broken != "" {
			return
		}
	}
}

// make makes one check.
func (s *subject) make(ctx context.Context, p *probe, check func(*caller.Container, *probe) (Finding, error)) Finding {
	c, err := s.callers(ctx)
	if err != nil {
		s.broken = "there is no container to make the calls"
		return Finding{Status: Skip, Text: "no container to make the calls: " + err.Error(), Next: "run intercede doctor"}
	}
	s.seen.take()
	f, err := check(c, p)
	s.settle()
	if failure := s.failures(s.seen.take()); failure != nil && f.Status != Fail {
		f = *failure
	}
	if err != nil && f.Status != Fail {
		f = Finding{Status: Skip, Text: err.Error()}
	}
	if f.Status != OK {
		s.dropContainer()
	}
	return f
}

// checkPointers gives the call every kind of pointer.
func (s *subject) checkPointers(c *caller.Container, p *probe) (Finding, error) {
	calls := p.variants()
	results, err := c.Calls(calls...)
	p.learn(calls, results)
	return s.asked(p), err
}

// checkCompat has a 32-bit caller do the same.
func (s *subject) checkCompat(c *caller.Container, p *probe) (Finding, error) {
	switch {
	case p == nil:
		return Finding{Status: Skip, Text: "32-bit programs do not have the call, or the manifest leaves it to the kernel"}, nil
	case p.syscall.GetCompat() != wire.Compat_COMPAT_TAKE:
		return Finding{Status: Skip, Text: "the manifest takes the call of 64-bit programs alone"}, nil
	}
	if err := c.CheckCompat(); err != nil {
		return Finding{}, err
	}
	return s.checkPointers(c, p)
}

// asked says how the calls of the probe's syscall were answered.
func (s *subject) asked(p *probe) Finding {
	s.settle()
	s.seen.mu.Lock()
	calls := of(p.syscall.GetName(), s.seen.all)
	s.seen.mu.Unlock()
	if len(calls) == 0 {
		return Finding{
			Status: Fail, Text: "no call was intercepted",
			Next: "see whether the conditions in When can hold: the arguments that were tried meet them one by one",
		}
	}
	return Finding{Status: OK, Text: summary(calls)}
}

// killAttempts is how often a caller is to be killed before the plugin looks at its call, until that works: on a busy
// machine the plugin can be stopped for too long meanwhile.
const killAttempts = 5

// checkKilledBefore has the caller killed before the plugin, which is stopped meanwhile, looks at its call.
func (s *subject) checkKilledBefore(c *caller.Container, p *probe) (Finding, error) {
	var err error
	for range killAttempts {
		if err = s.killBefore(c, p.bases()[0]); err == nil {
			return s.goesOn(c, p)
		}
	}
	return Finding{}, err
}

// stopTime bounds how long the plugin is stopped: one that has a call is killed after a second.
const stopTime = 500 * time.Millisecond

// errTooLate means that the plugin was stopped for so long that the launcher killed it.
var errTooLate = errors.New("the machine is too busy, or the callers need the call themselves: the plugin was stopped for too long")

func (s *subject) killBefore(c *caller.Container, call caller.Call) error {
	if err := c.Prepare(call); err != nil {
		return err
	}
	pid := s.status().PID
	plugin, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(plugin)
	if err := unix.PidfdSendSignal(plugin, unix.SIGSTOP, nil, 0); err != nil {
		return fmt.Errorf("stop the plugin: %w", err)
	}
	s.within(stopTime, func() bool { return linux.IsStopped(pid) })
	if err = c.Park(call); err == nil {
		s.within(stopTime, func() bool { return s.inflight() > 0 })
	}
	err = errors.Join(err, c.Unpark())
	unix.PidfdSendSignal(plugin, unix.SIGCONT, nil, 0)
	s.settle()
	if hasEnded(plugin) {
		s.await(func() bool { return s.status().Restarts > s.restarts })
		s.settle()
		s.restarts = s.status().Restarts
		s.seen.take()
		return errTooLate
	}
	return err
}

// hasEnded reports whether the process of a pidfd is gone.
func hasEnded(pidfd int) bool {
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return n > 0 && err == nil
}

// checkKilledDuring has callers killed while the plugin is at their calls.
func (s *subject) checkKilledDuring(c *caller.Container, p *probe) (Finding, error) {
	for _, base := range p.bases() {
		if err := c.Kill(base, killDelays); err != nil {
			return Finding{}, err
		}
	}
	return s.goesOn(c, p)
}

// goesOn makes an ordinary call, after those whose callers were killed.
func (s *subject) goesOn(c *caller.Container, p *probe) (Finding, error) {
	s.settle()
	_, err := c.Calls(p.bases()...)
	return s.asked(p), err
}

// checkNested has root of a user namespace in the container call.
func (s *subject) checkNested(c *caller.Container, p *probe) (Finding, error) {
	manifest := s.plugin.Manifest
	results, err := c.Nested(p.bases()...)
	if err != nil {
		return Finding{}, err
	}
	f := s.asked(p)
	if f.Status != OK || len(manifest.GetCapabilities()) == 0 {
		return f, nil
	}
	s.seen.mu.Lock()
	calls := of(p.syscall.GetName(), s.seen.all)
	s.seen.mu.Unlock()
	performed := slices.ContainsFunc(calls, func(r record) bool { return r.kind == audit.Return || r.kind == audit.AddFD })
	if performed && slices.ContainsFunc(results, func(r caller.Result) bool { return r.Ended == "" && r.Errno == 0 }) {
		return Finding{
			Status: Fail, Text: "the plugin, which has capabilities, performed the call for root of a nested user namespace: " + f.Text,
			Next: "ask Request.Privileged before acting: who has no capability in the container's own user namespace gains nothing",
		}, nil
	}
	return f, nil
}

// checkAtOnce has many threads call at the same time.
func (s *subject) checkAtOnce(c *caller.Container, p *probe) (Finding, error) {
	results, err := c.Threads(p.bases()[0], atOnce)
	if err != nil {
		return Finding{}, err
	}
	f := s.asked(p)
	if len(results) < atOnce && f.Status == OK {
		return Finding{Status: Skip, Text: "the kernel has not returned from calls that were left to it: " + f.Text}, nil
	}
	return f, nil
}
