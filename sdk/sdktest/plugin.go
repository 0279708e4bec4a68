package sdktest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/sandbox"
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/internal/serving"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

const (
	// transportEnv, set to "grpc", has no handler take lanes, as a plugin in another language.
	transportEnv = "INTERCEDE_TEST_TRANSPORT"
	// processEnv, set to "own", serves every handler in the test's process, where a debugger and -cover reach it.
	processEnv = "INTERCEDE_TEST_PROCESS"
	ownProcess = "own"
)

// plugin is a handler that is being served.
type plugin struct {
	rpc      wire.PluginClient
	manifest *wire.Manifest
	lanes    *lane.Pool
	pid      int // of its process
	sessions atomic.Uint64
	meeting  atomic.Int64 // of test and handler, see ordered
}

// ordered is a handler in the test's process. Test and handler talk over a socket, by system calls of which the race
// detector knows nothing. So both change the same number: what the test did before a call is known to happen before the
// handler's work, and that before what the test does with the answer.
type ordered struct {
	sdk.Handler
	meeting *atomic.Int64
}

func (o ordered) Attach(ctx context.Context, container sdk.Container, settings sdk.Settings) (sdk.Session, error) {
	session, err := o.Handler.Attach(ctx, container, settings)
	if err != nil || session == nil {
		return session, err
	}
	if checker, ok := session.(sdk.Checker); ok {
		return orderedChecker{orderedSession{session, o.meeting}, checker}, nil
	}
	return orderedSession{session, o.meeting}, nil
}

// Validate implements sdk.Validator.
func (o ordered) Validate(settings sdk.Settings) []sdk.Finding { return validate(o.Handler, settings) }

// validate has a handler that is a Validator say what is wrong with settings.
func validate(h sdk.Handler, settings sdk.Settings) []sdk.Finding {
	if v, ok := h.(sdk.Validator); ok {
		return v.Validate(settings)
	}
	return nil
}

type orderedSession struct {
	sdk.Session
	meeting *atomic.Int64
}

func (s orderedSession) Handle(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	s.meeting.Add(1)
	defer s.meeting.Add(1)
	return s.Session.Handle(ctx, req)
}

// orderedChecker is the session of a handler that checks calls.
type orderedChecker struct {
	orderedSession
	checker sdk.Checker
}

func (s orderedChecker) Check(ctx context.Context, req *sdk.Request) (sdk.Response, bool, error) {
	s.meeting.Add(1)
	defer s.meeting.Add(1)
	return s.checker.Check(ctx, req)
}

func (s orderedSession) Close() error { return closeSession(s.Session) }

// closeSession closes a session that can be closed.
func closeSession(s sdk.Session) error {
	if c, ok := s.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// inProcess is a handler that InProcess was called with.
type inProcess struct{ sdk.Handler }

// Validate implements sdk.Validator.
func (p inProcess) Validate(settings sdk.Settings) []sdk.Finding {
	return validate(p.Handler, settings)
}

// InProcess has the handler served in the test's own process, with all the privilege of the test, over lanes: for
// handlers that share something with the test. Around and Hold are served so.
func InProcess(h sdk.Handler) sdk.Handler { return inProcess{h} }

// registered are the handlers that Main was given.
var registered []*processes

// processes is the one process of a handler, which serves all containers of the test binary.
type processes struct {
	handler sdk.Handler
	once    sync.Once
	process *sandbox.Process
	plugin  *plugin
	err     error
}

// pluginOf serves the handler.
func pluginOf(t testing.TB, h sdk.Handler) *plugin {
	t.Helper()
	switch own := h.(type) {
	case inProcess:
		return serveHere(t, own.Handler)
	case Around, *Hold:
		return serveHere(t, h)
	}
	for _, p := range registered {
		if !reflect.DeepEqual(p.handler, h) {
			continue
		}
		if os.Getenv(processEnv) == ownProcess {
			return serveHere(t, h)
		}
		p.once.Do(p.start)
		if p.err != nil {
			t.Fatalf("sdktest: %v", p.err)
		}
		return p.plugin
	}
	t.Fatalf("sdktest: %T %+v is not a handler that Main was given (%s): give it to Main, which has it run in the sandbox that production has, "+
		"or wrap it in InProcess", h, h, registeredTypes())
	return nil
}

// registeredTypes names the types of the handlers that Main was given.
func registeredTypes() string {
	var types []string
	for _, p := range registered {
		types = append(types, fmt.Sprintf("%T", p.handler))
	}
	if len(types) == 0 {
		return "none"
	}
	return strings.Join(types, ", ")
}

// becomePlugin serves a registered handler if this process was started to be its plugin, and does not return then.
func becomePlugin() {
	name, ok := strings.CutPrefix(filepath.Base(os.Args[0]), wire.BinaryPrefix)
	// The test binary of a package in a folder intercede-plugin-NAME is intercede-plugin-NAME.test.
	if !ok || wire.CheckPluginName(name) != nil {
		return
	}
	for _, p := range registered {
		if p.handler.Manifest().Name == name {
			sdk.Serve(p.handler)
		}
	}
	exitWith(fmt.Errorf("no handler named %q", name))
}

// start starts this test binary again, as the plugin, in the sandbox that production has.
func (p *processes) start() {
	manifest := p.handler.Manifest()
	binary, err := os.Open("/proc/self/exe")
	if err != nil {
		p.err = err
		return
	}
	defer binary.Close()
	log := hclog.New(&hclog.LoggerOptions{Name: manifest.Name, Level: hclog.Warn, Output: os.Stderr})
	p.process, p.err = sandbox.Start(context.Background(), sandbox.Plugin{
		Name: manifest.Name, Path: wire.BinaryPrefix + manifest.Name, Binary: binary, Capabilities: manifest.Capabilities,
		Uses: usesToWire(manifest.Uses), Log: log,
		Refused: func(r sandbox.Refusal) {
			log.Warn("the sandbox refused a system call of the plugin, with EPERM; what it needs it names in Uses.Syscalls", "call", r)
		},
	})
	if p.err != nil {
		return
	}
	p.plugin = &plugin{rpc: p.process.RPC, lanes: &p.process.Lanes, pid: p.process.PID}
	if p.err = p.plugin.askManifest(); p.err == nil && os.Getenv(transportEnv) != "grpc" {
		p.err = p.process.OpenLanes(context.Background())
	}
}

// usesToWire is nil for a manifest that does not say what the plugin uses.
func usesToWire(uses sdk.Uses) *wire.Uses {
	if reflect.DeepEqual(uses, sdk.Uses{}) {
		return nil
	}
	return &wire.Uses{Syscalls: uses.Syscalls, Host: uses.Host, Devices: uses.Devices, HostPids: uses.HostPIDs}
}

func stopPlugins() {
	for _, p := range registered {
		if p.process != nil {
			p.process.Stop()
		}
	}
}

// serveHere serves the handler in this process until the end of the test.
func serveHere(t testing.TB, h sdk.Handler) *plugin {
	t.Helper()
	p := &plugin{lanes: &lane.Pool{}, pid: os.Getpid()}
	service, err := serving.New(ordered{h, &p.meeting})
	if err != nil {
		t.Fatalf("sdktest: %v", err)
	}
	p.rpc = wire.NewPluginClient(connect(t, service))
	if err := p.askManifest(); err != nil {
		t.Fatalf("sdktest: %v", err)
	}
	serveLanes(t, service, p)
	return p
}

// connect serves the service over gRPC, in memory, until the end of the test.
func connect(t testing.TB, service wire.PluginServer) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	wire.RegisterPluginServer(server, service)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	connection, err := grpc.NewClient("passthrough:///plugin",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatalf("sdktest: %v", err)
	}
	t.Cleanup(func() { connection.Close() })
	return connection
}

// serveLanes serves lanes, and the descriptors of streams, until the end of the test.
func serveLanes(t testing.TB, service serving.Server, p *plugin) {
	t.Helper()
	ours, theirs, err := lane.Pair()
	if err != nil {
		t.Fatalf("sdktest: %v", err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { service.ServeLanes(lane.New(theirs)) })
	t.Cleanup(func() {
		p.lanes.Close()
		serving.Wait()
	})
	if err := p.lanes.Control(lane.New(ours)); err != nil {
		t.Fatalf("sdktest: %v", err)
	}
	if os.Getenv(transportEnv) != "grpc" {
		p.lanes.Accept()
	}
}

func (p *plugin) askManifest() (err error) {
	if p.manifest, err = p.rpc.Manifest(context.Background(), &wire.ManifestRequest{}); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	return nil
}

// attach attaches a session and detaches it at the end of the test. The error is the handler's refusal.
func (p *plugin) attach(t testing.TB, container sdk.Container, settings string, kept *wire.Store) (session uint64, err error) {
	t.Helper()
	id := p.sessions.Add(1)
	request := &wire.AttachRequest{
		Session: id, Container: containerToWire(container), SettingsJson: settings, Kept: kept.Entries(), Features: wire.Features(),
	}
	reply, err := p.rpc.Attach(context.Background(), request)
	if err != nil {
		return 0, err
	}
	if reply.GetRefused() != "" {
		return 0, errors.New(reply.GetRefused())
	}
	t.Cleanup(func() {
		if _, err := p.rpc.Detach(context.Background(), &wire.DetachRequest{Session: id}); err != nil {
			t.Errorf("sdktest: detach: %v", err)
		}
	})
	return id, nil
}

// cpu is the processor of the lanes: production has one for each worker.
const cpu = 0

// handle has the plugin handle the notification of the dialogue. The error is as lane.Lane's.
func (p *plugin) handle(ctx context.Context, d *lane.Dialogue, caller lane.Caller, timeout time.Duration) (*wire.Response, *lane.Descriptor, error) {
	p.meeting.Add(1)
	defer p.meeting.Add(1)
	deadline := time.Now().Add(timeout)
	for l := p.lanes.Take(cpu); l != nil; l = p.lanes.Take(cpu) {
		response, added, err := l.Handle(ctx, d, caller, deadline)
		// A thread that could not be brought home closes its lane. The next call goes over another, as in production.
		if !errors.Is(err, lane.ErrUnread) || time.Now().After(deadline) {
			return response, added, err
		}
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	ctx, release := lane.WhileWaiting(ctx, caller)
	defer release()
	response, added, err := lane.Stream{Plugin: p.rpc, Pool: p.lanes}.Handle(ctx, d, caller)
	switch {
	case err == nil:
		return response, added, nil
	case ctx.Err() != nil:
		return nil, nil, context.Cause(ctx)
	case status.Code(err) == codes.Canceled:
		return nil, nil, lane.ErrGone
	default:
		return nil, nil, errors.New(status.Convert(err).Message())
	}
}

func containerToWire(c sdk.Container) *wire.Container {
	return &wire.Container{
		Id: c.ID, Runtime: c.Runtime, Annotations: c.Annotations, InitPid: int32(c.InitPID),
		UserNamespaceDev: c.UserNamespace.Dev, UserNamespaceIno: c.UserNamespace.Ino,
		UidMap: mappingsToWire(c.UIDMap), GidMap: mappingsToWire(c.GIDMap), Cgroups: c.Cgroups, CgroupShared: c.CgroupShared,
		DevicesDenied: c.DevicesDenied,
	}
}

func mappingsToWire(mappings []sdk.IDMapping) []*wire.IDMapping {
	var list []*wire.IDMapping
	for _, m := range mappings {
		list = append(list, &wire.IDMapping{Inside: m.Inside, Outside: m.Outside, Length: m.Length})
	}
	return list
}
