package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/intake/lxc"
	"github.com/intercede/intercede/core/intake/oci"
	"github.com/intercede/intercede/core/keep"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/metrics"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/loglimit"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
	protobuf "google.golang.org/protobuf/proto"
)

// Server is the daemon: an engine, and the sockets that runtimes and operators connect to.
type Server struct {
	Orders         control.Orders // that the admin socket takes; they are set before Serve
	DroppedRecords func() uint64  // how many records the log has dropped, for metrics; set before Serve, or nil

	log      zerolog.Logger
	peerLog  *loglimit.Limit // of what users other than root cause
	engine   *Engine
	runtimes *oci.Server
	monitors *lxc.Server // nil: the config has no socket for LXC
	left     []*leftMonitor
	manager  Manager
	control  *control.Server
	metrics  *metrics.Server // nil: there is no address for them

	started  time.Time
	sockets  sockets
	priority linux.Priority        // of the config that the daemon started with
	setup    atomic.Pointer[Setup] // of containers that are attached from now on

	metricsAddress string // of the config that the daemon started with
	lastReload     atomic.Pointer[control.LastReload]
	inForce        atomic.Pointer[time.Time] // since when the config is
}

// sockets are paths, which a reload cannot change.
type sockets struct{ runtime, lxc, control string }

func socketsOf(setup *Setup) sockets {
	b := setup.Policy.Broker
	return sockets{b.Socket, b.LXCSocket, b.Control}
}

// Listen binds the sockets, which fails while another daemon owns them, starts the plugins, and goes on with the
// containers that the daemon before has left. ctx is for that alone.
func Listen(ctx context.Context, setup *Setup, manager Manager, log zerolog.Logger) (_ *Server, err error) {
	s := &Server{log: log, peerLog: loglimit.New(maxPeerRecords), started: time.Now(), sockets: socketsOf(setup), manager: manager}
	s.priority = setup.Policy.Broker.Priority
	s.setup.Store(setup)
	s.inForce.Store(&s.started)
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	kept := s.manager.sockets()
	if s.runtimes, err = oci.Listen(s.sockets.runtime, kept, s.refused); err != nil {
		return nil, err
	}
	if s.sockets.lxc != "" {
		if s.monitors, err = lxc.Listen(s.sockets.lxc, kept, s.monitorRefused); err != nil {
			return nil, err
		}
	}
	if s.control, err = control.Listen(s.sockets.control, kept); err != nil {
		return nil, err
	}
	if err := s.listenMetrics(setup); err != nil {
		return nil, err
	}
	s.report(s.manager.forgetSockets(kept))
	folder := stateFolder(s.sockets.control)
	state, remains, err := OpenState(folder, manager.Store, log)
	if err != nil {
		return nil, err
	}
	if err := remains.checkKept(folder, s.manager.Inherited); err != nil {
		return nil, err
	}
	if s.engine, err = Start(ctx, setup, state, log); err != nil {
		return nil, errors.Join(err, launcher.KnownIn(folder).Forget())
	}
	if remains.files, err = manager.Store.TakeOver(ctx, s.manager.Inherited); err != nil {
		log.Error().Err(err).Msg("taking over from what answered for the daemon")
	}
	if s.monitors != nil {
		s.left = remains.takeMonitors()
		for _, left := range s.left {
			s.engine.Reserve(left.number)
		}
	}
	s.engine.Adopt(ctx, setup, remains)
	s.engine.metrics.Watch(s.look)
	return s, nil
}

// Serve takes listeners and notifications from runtimes until ctx is done.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	failed := make(chan error, 3)
	serve := func(serve func() error) {
		err := serve()
		if err != nil {
			cancel(err)
		}
		failed <- err
	}
	go serve(func() error {
		return s.control.Serve(control.Source{
			Orders: s.Orders, Status: s.status, Policies: s.engine.Policies, Revoke: s.engine.Revoke, Interception: s.interception,
			Watch: control.Watch{Begin: s.engine.Watch, Containers: s.engine.CountWatched}, Why: s.why, Metrics: s.writeMetrics,
			Containers: s.containers, Health: s.health,
		})
	})
	go serve(func() error { return s.serveMonitors(ctx) })
	go serve(s.serveMetrics)
	s.log.Info().Str("socket", s.sockets.runtime).Str("lxc_socket", s.sockets.lxc).Str("control", s.sockets.control).
		Str("metrics", s.metricsAddress).Msg("serving")
	s.checkStore()
	s.tellReady()
	go s.feedWatchdog(ctx)
	err := s.runtimes.Serve(ctx, s.engine.ListenerRoom(), func(a oci.Arrival) { s.attach(ctx, a) })
	cancel(err)
	s.metrics.Close()
	return errors.Join(err, s.control.Close(), <-failed, <-failed, <-failed)
}

// serveMonitors serves LXC's monitors, if there is a socket for them, until ctx is done.
func (s *Server) serveMonitors(ctx context.Context) error {
	if s.monitors == nil {
		return nil
	}
	for _, left := range s.left {
		s.monitors.Adopt(left.connection, func(c *lxc.Connection) { s.adoptMonitor(ctx, c, left) })
	}
	return s.monitors.Serve(ctx, s.engine.MaxConnections(), s.engine.RelayRoom(), func(c *lxc.Connection) { s.serveMonitor(ctx, c) })
}

// Reload gives the containers that are attached from now on the new setup, see [Engine.Reload], and returns what is
// different, a line for each thing. Apply gives it to the others.
func (s *Server) Reload(ctx context.Context, setup *Setup) ([]string, error) {
	s.tell(keep.Reloading())
	defer s.tell(keep.Ready)
	before := s.setup.Load()
	if err := s.engine.Reload(ctx, setup); err != nil {
		return nil, err
	}
	s.setup.Store(setup)
	changes := append(setup.doc.Changes(before.doc), setup.changedPrograms(before)...)
	changes = append(changes, s.notInForce(setup)...)
	s.log.Info().Int("plugins", len(setup.Policy.Plugins)).Strs("changes", changes).
		Msg("config reloaded: containers that come from now on get it")
	return changes, nil
}

// Apply gives the setup to the containers that run: see [broker.Broker.Apply].
func (s *Server) Apply(ctx context.Context) []broker.Applied { return s.engine.Apply(ctx) }

// notInForce says what of the setup takes another daemon.
func (s *Server) notInForce(setup *Setup) (lines []string) {
	if wanted := socketsOf(setup); wanted != s.sockets {
		lines = append(lines, "the config names other sockets: restart the daemon to use them")
	}
	if setup.Policy.Broker.Priority != s.priority {
		lines = append(lines, "broker.priority: restart the daemon for it")
	}
	if setup.Policy.Broker.Metrics != s.metricsAddress {
		lines = append(lines, "broker.metrics: restart the daemon for it")
	}
	for _, line := range lines {
		s.log.Warn().Msg(line)
	}
	return lines
}

// changedPrograms says which plugins of both setups have another program.
func (s *Setup) changedPrograms(before *Setup) (lines []string) {
	for i, p := range s.Policy.Plugins {
		for j, old := range before.Policy.Plugins {
			if p.Name == old.Name && !protobuf.Equal(s.installed[i], before.installed[j]) {
				lines = append(lines, fmt.Sprintf("plugins.%s: its program is another one: version %s (was %s)", p.Name,
					s.installed[i].GetVersion(), before.installed[j].GetVersion()))
			}
		}
	}
	return lines
}

// HandOver ends the daemon for the next one, and reports whether it could: if nothing keeps its descriptors, Close
// has to end it. The process must end then, without Close: see [broker.Broker.HandOver].
func (s *Server) HandOver() bool {
	s.tell(keep.Stopping)
	if !s.manager.Store.Available() {
		return false
	}
	if err := s.manager.Store.Leave(); err != nil {
		s.log.Error().Err(err).Msg("nobody answers for the daemon until the next one comes")
	}
	s.engine.HandOver()
	s.control.Finish() // who asked for it is to hear of it
	return true
}

// Close removes the sockets, answers or releases every parked call, and stops the plugins. Serve must have returned.
func (s *Server) Close() {
	if s.runtimes != nil {
		s.report(s.runtimes.Close())
	}
	if s.control != nil {
		s.report(s.control.Close())
	}
	s.metrics.Close()
	if s.engine != nil {
		s.engine.Close()
	}
	if s.monitors != nil {
		s.report(s.monitors.Close()) // its connections end with the engine
	}
}

func (s *Server) report(err error) {
	if err != nil {
		s.log.Warn().Err(err).Msg("closing")
	}
}

// attach is called for each listener that a runtime delivers.
func (s *Server) attach(ctx context.Context, a oci.Arrival) {
	claim := container.Claim{
		ID: a.State.State.ID, Runtime: config.RuntimeOCI, Annotations: a.State.State.Annotations, PID: a.State.State.Pid,
	}
	claim.PeerUID, claim.PeerCgroups = &a.Peer.Uid, container.ReadPeer(int(a.Peer.Pid))
	if claim.Trusted() {
		bundle := oci.ReadBundle(a.State.State.Bundle, claim.ID)
		claim.CgroupsPath = cmp.Or(bundle.CgroupsPath, claim.ID) // runc's default
		// `intercede run` alone has no bundle.
		if a.State.State.Bundle == "" {
			claim.CgroupsPath = run.CgroupsPath(claim.ID)
		}
		claim.EngineName, claim.EngineImage = bundle.Name, bundle.Image
	}
	if claim.PID == 0 {
		claim.PID = a.State.Pid
	}
	switch err := s.engine.Attach(ctx, a.Listener, claim); {
	case errors.Is(err, os.ErrProcessDone):
		s.peerEvent(zerolog.DebugLevel, a.Peer).Err(err).Str("container", claim.ID).Msg("the container has ended already")
	case err != nil:
		s.peerEvent(zerolog.ErrorLevel, a.Peer).Err(err).Str("container", claim.ID).Msg("the container's calls get ENOSYS")
	}
}

// maxPeerRecords is how many records in a second users other than root cause by connections that are of no use.
const maxPeerRecords = 10

// peerEvent begins a record about a peer; nil: it is not logged.
func (s *Server) peerEvent(level zerolog.Level, peer unix.Ucred) *zerolog.Event {
	if level < max(s.log.GetLevel(), zerolog.GlobalLevel()) {
		return nil
	}
	suppressed := 0
	if peer.Uid != 0 {
		var ok bool
		if suppressed, ok = s.peerLog.Take(1); !ok {
			return nil
		}
	}
	event := s.log.WithLevel(level).Int32("peer_pid", peer.Pid).Uint32("peer_uid", peer.Uid)
	if suppressed > 0 {
		event = event.Int("suppressed", suppressed)
	}
	return event
}

// refused is called for each connection of a runtime that did not bring a listener.
func (s *Server) refused(peer unix.Ucred, err error) {
	level := zerolog.WarnLevel
	if errors.Is(err, oci.ErrNothingSent) || errors.Is(err, context.Canceled) {
		level = zerolog.DebugLevel
	}
	s.peerEvent(level, peer).Err(err).Msg("no listener from a runtime")
}

// interception returns what a filter for the described container must intercept. The container does not exist yet. If
// the daemon cannot take another one, the error keeps the runtime from creating it.
func (s *Server) interception(d policy.Description) (*control.Interception, error) {
	claim := container.Claim{ID: d.ID, Name: d.Name, Runtime: d.Runtime, Annotations: d.Annotations, PeerUID: d.PeerUID}
	if err := s.engine.CheckRoom(claim); err != nil {
		return nil, err
	}
	return &control.Interception{Socket: s.sockets.runtime, Manifests: s.setup.Load().ManifestsFor(d)}, nil
}
