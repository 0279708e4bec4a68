package launcher

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-plugin"
	"github.com/intercede/intercede/internal/sandbox"
	"github.com/intercede/intercede/internal/wire"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	protobuf "google.golang.org/protobuf/proto"
)

// healthInterval is between health checks that fail at once: the connection is broken.
const healthInterval = 100 * time.Millisecond

// slowAfter is how long a step of a start takes before the log says so.
var slowAfter = 10 * time.Second

// process is one run of a plugin.
type process struct {
	*sandbox.Process
	log       zerolog.Logger
	started   time.Time
	version   string
	health    time.Duration // see Times
	answers   atomic.Uint64 // over gRPC
	suspected atomic.Bool
	silent    atomic.Bool  // it was killed because it did not answer
	streams   atomic.Int32 // calls over gRPC
	private   bool         // it serves one container alone
	left      atomic.Bool  // that container's calls go to another process
	looked    atomic.Int64 // when, in ns since 1970
	stoppedAt atomic.Int64 // it was first found stopped, in ns since 1970; 0: it is not stopped
	stopped   atomic.Bool  // it was killed because it was stopped
	isolated  atomic.Bool  // it is dead, and containers that had calls in it have left the others
}

// newProcess starts the plugin and makes sure that it is the one whose manifest was read.
func (p *Plugin) newProcess(ctx context.Context) (*process, error) {
	if err := p.binary.check(p.spec.SHA256); err != nil {
		return nil, err
	}
	defer reportSlow(p.log, "its start")()
	run, err := sandbox.Start(ctx, sandbox.Plugin{
		Name: p.spec.Name, Path: p.spec.Path, Binary: p.binary.File, Interpreter: p.binary.script.how(), Capabilities: p.manifest.GetCapabilities(), Uses: p.manifest.GetUses(),
		Limits: p.spec.Limits, Log: p.hclog, Refused: p.refused.add,
	})
	if err != nil {
		return nil, err
	}
	started := &process{Process: run, log: p.log, started: time.Now(), health: p.spec.Times.orUsual().Health}
	started.Lanes.Late = started.late
	if err := started.prepare(ctx, p.spec, p.manifest); err != nil {
		started.Stop()
		return nil, err
	}
	return started, nil
}

// reportSlow logs what of the plugin is waited for, unless the returned function is called soon.
func reportSlow(log zerolog.Logger, what string) (done func() bool) {
	return time.AfterFunc(slowAfter, func() { log.Warn().Msgf("the plugin is slow: still waiting for %s", what) }).Stop
}

func (p *process) prepare(ctx context.Context, spec Spec, manifest *wire.Manifest) error {
	if err := p.compareManifest(ctx, manifest); err != nil {
		return err
	}
	if spec.GRPC {
		return nil
	}
	return p.OpenLanes(ctx)
}

func (p *process) compareManifest(ctx context.Context, want *wire.Manifest) error {
	ctx, cancel := context.WithTimeout(ctx, sandbox.StartTimeout)
	defer cancel()
	got, err := p.RPC.Manifest(ctx, &wire.ManifestRequest{})
	if err != nil {
		return fmt.Errorf("manifest of the running plugin: %w", err)
	}
	p.version = got.GetVersion()
	// The file was changed in place, where it differs: what serves the containers must do what their filters, settings
	// and grants were made for. A version and a description say nothing of that.
	if !protobuf.Equal(substance(got), substance(want)) {
		return errors.New("the plugin has another manifest than its binary had when the config was read; `intercede reload` reads it anew, " +
			"for the containers to come")
	}
	return nil
}

// substance is a manifest without what says nothing of what the plugin does. The handshake says which protocol it
// speaks.
func substance(m *wire.Manifest) *wire.Manifest {
	m = protobuf.Clone(m).(*wire.Manifest)
	m.Version, m.Description, m.Protocols, m.Reasons, m.CallerCapabilities = "", "", nil, nil, nil
	for _, s := range m.GetSettings() {
		s.Help = ""
	}
	return m
}

// learn notes what the end of a gRPC call says of the process: that it answers, if only with an error, or may not.
func (p *process) learn(ctx context.Context, err error) {
	cause := context.Cause(ctx)
	switch {
	case err == nil, cause == nil && !meansSilence(err):
		p.answers.Add(1)
	case meansSilence(cause), meansSilence(err):
		p.suspect()
	}
}

// meansSilence reports whether the error means that the plugin missed a deadline, or that its connection is broken.
func meansSilence(err error) bool {
	code := status.Code(err)
	return errors.Is(err, context.DeadlineExceeded) || code == codes.DeadlineExceeded || code == codes.Unavailable
}

// suspect kills a plugin that from now on answers neither a call nor a health check. One that is only slow lives on.
func (p *process) suspect() {
	if !p.suspected.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer p.suspected.Store(false)
		before := p.heard()
		switch {
		case p.answersHealthCheck(), p.IsDead():
		case p.heard() != before:
			p.log.Warn().Int("pid", p.PID).Msgf("the plugin is slow: it answered calls, but no health check for %v", p.health)
		default:
			p.silent.Store(true)
			p.Kill()
		}
	}()
}

// heard counts what the plugin has said.
func (p *process) heard() uint64 { return p.Lanes.Received() + p.answers.Load() }

// answersHealthCheck reports whether the plugin answers a health check in time.
func (p *process) answersHealthCheck() bool {
	ctx, cancel := context.WithTimeout(context.Background(), p.health)
	defer cancel()
	client := grpc_health_v1.NewHealthClient(p.Conn)
	for {
		request := &grpc_health_v1.HealthCheckRequest{Service: plugin.GRPCServiceName}
		if _, err := client.Check(ctx, request, grpc.WaitForReady(true)); err == nil {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-p.Dead():
			return false
		case <-time.After(healthInterval):
		}
	}
}

// ending says how the run ended, which is dead.
func (p *process) ending() error {
	lasted := time.Since(p.started).Round(time.Millisecond)
	if p.stopped.Load() {
		return fmt.Errorf("the process %d was stopped, by SIGSTOP or a debugger: it was killed after %v", p.PID, lasted)
	}
	if p.silent.Load() {
		return fmt.Errorf("the process %d answered no call and no health check for %v: it was killed after %v", p.PID, p.health, lasted)
	}
	return fmt.Errorf("the process %d ended after %v: %s", p.PID, lasted, p.Ending())
}
