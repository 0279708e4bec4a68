package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/intercede/intercede/internal/device"
	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// StartTimeout bounds each step of a start, which takes long on a busy host.
	StartTimeout = 60 * time.Second
	// stopGrace is how long a plugin may take to end by itself.
	stopGrace = 3 * time.Second
	// maxHeader bounds the text of an error, which gRPC carries in a header, in bytes.
	maxHeader = 64 << 10
)

// Plugin is what Start needs to know.
type Plugin struct {
	Name         string       // its user ID comes of it
	Path         string       // argv[0]
	Binary       *os.File     // opened and checked; it is the caller's to close
	Interpreter  *Interpreter // of a script, its file opened and checked as well; nil: Binary is not a script
	Capabilities []string     // "CAP_MKNOD": these and no others
	Uses         *wire.Uses   // what its manifest says
	Limits       Limits
	Env          []string     // beyond the ordinary
	Log          hclog.Logger // go-plugin's, and what the plugin logs
	// Refused is called, in a goroutine of its own, for each system call that the filter refuses.
	Refused func(Refusal)
}

// Process is one run of a plugin.
type Process struct {
	RPC   wire.PluginClient
	Conn  *grpc.ClientConn
	PID   int
	Lanes lane.Pool // none before OpenLanes
	// Weaker says what does not confine the process as elsewhere, since this host lacks it.
	Weaker []string

	client   *plugin.Client
	command  *exec.Cmd
	lifeline *os.File // the broker's end
	pidfd    *os.File // of the very process that was started
	sockets  *os.File // a mount that is the folder of the plugin's socket
	address  string   // of its socket; empty until it is known to be in that folder
	cgroups  *cgroups
	ending   ending

	gone     chan struct{} // closed when the process is gone
	cleaned  chan struct{} // closed when its cgroups are gone too
	dead     chan struct{} // closed when the process is gone, or was killed
	die      func()        // closes dead
	stopOnce sync.Once
}

// Start starts the plugin in its sandbox and connects to it, unless ctx ends before.
func Start(ctx context.Context, plugin Plugin) (*Process, error) {
	ours, theirs, err := newLifeline()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	p := &Process{lifeline: ours, gone: make(chan struct{}), cleaned: make(chan struct{}), dead: make(chan struct{})}
	p.ending.known = make(chan struct{})
	p.die = sync.OnceFunc(func() { close(p.dead) })
	starting, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, giveUp)()
	go answerRefusals(ours, plugin.Refused)
	started := make(chan error)
	go func() {
		// When the thread that started it ends, the kernel kills the plugin (PR_SET_PDEATHSIG, see becomePlugin).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer ours.Close()
		started <- p.start(starting, plugin, theirs)
		p.awaitDeath()
		p.ending.starved = p.cgroups.starved()
		go p.learnStatus()
		if p.cgroups != nil {
			p.cgroups.remove()
		}
		close(p.cleaned)
	}()
	if err := <-started; err != nil {
		p.Stop()
		if ctx.Err() != nil {
			err = fmt.Errorf("%s: %w", plugin.Path, context.Cause(ctx))
		}
		return nil, err
	}
	return p, nil
}

// awaitDeath returns when the process is gone: a pidfd is then readable (pidfd_open(2)).
func (p *Process) awaitDeath() {
	defer p.die()
	defer close(p.gone)
	p.withPidfd(func(pidfd int) {
		poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		for {
			if _, err := unix.Poll(poll, -1); err != unix.EINTR {
				return
			}
		}
	})
}

// start starts the process, which is killed if ctx ends.
func (p *Process) start(ctx context.Context, spec Plugin, lifeline *os.File) error {
	r, err := p.restrict(spec)
	if err != nil {
		return err
	}
	files, err := cloneFiles(spec.Binary, spec.Interpreter)
	if err != nil {
		return err
	}
	defer files.close()
	r.Args = files.arguments(spec.Path)
	if files.script != nil {
		r.Script = servedScriptFD
	}
	cmd, err := command(ctx, r, files.executed)
	if err != nil {
		return err
	}
	p.cgroups.enterV2(cmd.SysProcAttr)
	if err := p.makeSocketDir(r.ID); err != nil {
		return err
	}
	pidfd := -1
	cmd.SysProcAttr.PidFD = &pidfd
	control, theirs, err := lane.Pair()
	if err != nil {
		return err
	}
	lanesFile := os.NewFile(uintptr(theirs), "lanes")
	defer lanesFile.Close()
	if err := p.Lanes.Control(lane.New(control)); err != nil {
		return err
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, lifeline, lanesFile, p.sockets)
	if files.script != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, files.script)
	}
	cmd.Env = append(append(cmd.Env, spec.Env...),
		fmt.Sprintf("%s=%d", wire.LanesEnv, lanesFD),
		fmt.Sprintf("%s=%d", wire.LifelineEnv, lifelineFD),
		fmt.Sprintf("%s=%s", plugin.EnvUnixSocketDir, socketDir),
		"TMPDIR="+socketDir)
	p.command = cmd
	var words lastWords
	p.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake,
		VersionedPlugins: map[int]plugin.PluginSet{wire.ProtocolVersion: {wire.PluginName: grpcClient{}}},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Cmd:              cmd,
		SkipHostEnv:      true,
		StartTimeout:     StartTimeout,
		Logger:           spec.Log,
		Stderr:           &words,
		SyncStderr:       &lines{log: spec.Log.Named("stderr")},
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(wire.MaxMessage)),
			grpc.WithMaxHeaderListSize(maxHeader),
			grpc.WithReadBufferSize(wire.GRPCBuffer),
			grpc.WithWriteBufferSize(wire.GRPCBuffer),
			grpc.WithContextDialer(p.dial),
			grpc.WithUnaryInterceptor(p.endQuietly),
		},
	})
	address, err := p.client.Start()
	if pidfd >= 0 {
		// Blocking, as the one that os/exec waits with: they share their description.
		p.pidfd = os.NewFile(uintptr(pidfd), "pidfd of a plugin")
	}
	if err != nil {
		return p.startError(ctx, spec.Path, &words, err)
	}
	if address.Network() != "unix" || filepath.Dir(address.String()) != socketDir {
		return fmt.Errorf("%s: serves on %s %q: want a socket in its own folder, %s", spec.Path, address.Network(), address, socketDir)
	}
	p.address = address.String()
	protocol, err := p.client.Client()
	if err != nil {
		return fmt.Errorf("%s: %w", spec.Path, err)
	}
	service, err := protocol.Dispense(wire.PluginName)
	if err != nil {
		return fmt.Errorf("%s: %w", spec.Path, err)
	}
	p.Conn = service.(*grpc.ClientConn)
	p.RPC = wire.NewPluginClient(p.Conn)
	p.PID = p.client.ReattachConfig().Pid
	p.Lanes.PID = p.PID
	return nil
}

// logged has what logOnce has logged.
var logged sync.Map

// logOnce logs what is weaker here than on other hosts, for one of all plugins: it is so for the others too.
func logOnce(log hclog.Logger, weaker []string) {
	for _, text := range weaker {
		if _, before := logged.LoadOrStore(text, true); !before {
			log.Warn("the sandbox of plugins is weaker here: " + text)
		}
	}
}

// restrict makes the cgroups of the process, and says what else it may be.
func (p *Process) restrict(spec Plugin) (restrictions, error) {
	uses, limits := spec.Uses, spec.Limits.orDefault()
	devices, err := device.ParseRules(uses.GetDevices())
	if err != nil {
		return restrictions{}, err
	}
	if p.cgroups, err = newCgroups(spec.Name, limits, devices); err != nil {
		return restrictions{}, err
	}
	p.Weaker = p.cgroups.weaknesses()
	logOnce(spec.Log, p.Weaker)
	r := restrictions{
		ID: UserID(spec.Name), Capabilities: spec.Capabilities, Syscalls: uses.GetSyscalls(), Host: uses.GetHost(),
		HostPIDs: uses.GetHostPids(), Served: true, Joins: p.cgroups.joined(), Tasks: maxThreads,
	}
	if p.cgroups.tasksFree != nil {
		r.Tasks = uint64(limits.Tasks)
	}
	if p.cgroups.memoryFree != nil {
		r.Memory = uint64(limits.Memory) + mappedOnly
	}
	return r, nil
}

// startError makes the error of a plugin that does not serve: what it said itself says more than what go-plugin makes
// of its end.
func (p *Process) startError(ctx context.Context, path string, words *lastWords, err error) error {
	p.stopClient() // waits for its last words
	var spoken uint32
	if _, text, found := strings.Cut(err.Error(), "incompatible API version with plugin. Plugin version: "); found {
		if _, scan := fmt.Sscan(text, &spoken); scan == nil {
			return fmt.Errorf("%s: %w", path, wire.ProtocolError(spoken))
		}
	}
	if said := words.String(); said != "" && ctx.Err() == nil {
		return fmt.Errorf("%s ended before it served: %s", path, said)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// OpenLanes asks the plugin whether it takes lanes. One in another language may not know of them.
func (p *Process) OpenLanes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, StartTimeout)
	defer cancel()
	answer, err := p.RPC.OpenLanes(ctx, &wire.OpenLanesRequest{})
	if err != nil && status.Code(err) != codes.Unimplemented {
		return fmt.Errorf("lanes of the plugin: %w", err)
	}
	if answer.GetAccepted() {
		p.Lanes.Accept()
	}
	return nil
}

// dial connects to the plugin's socket, and to no other that it may name, or link to.
func (p *Process) dial(ctx context.Context, _ string) (net.Conn, error) {
	if p.address == "" {
		return nil, errors.New("the plugin has no socket of its own")
	}
	socket, errno := -1, error(nil)
	if err := withDescriptor(p.sockets, func(dir int) {
		socket, errno = unix.Openat(dir, filepath.Base(p.address), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}); err != nil {
		return nil, err
	}
	if errno != nil {
		return nil, &os.PathError{Op: "open", Path: p.address, Err: errno}
	}
	defer unix.Close(socket)
	return (&net.Dialer{}).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", socket))
}

// makeSocketDir makes the folder of the plugin's socket, which nobody but the plugin and root may enter. It is a small
// filesystem of its own, so that the plugin can fill no other, and the plugin alone has it mounted.
func (p *Process) makeSocketDir(id int) (err error) {
	p.sockets, err = linux.NewMount("tmpfs", map[string]string{
		"source": "intercede", "mode": "0700", "uid": strconv.Itoa(id), "gid": strconv.Itoa(id), "size": "1m", "nr_inodes": "64",
	}, closedMount)
	return err
}

// withPidfd calls fn unless the pidfd is closed, and keeps it open meanwhile.
func (p *Process) withPidfd(fn func(pidfd int)) error { return withDescriptor(p.pidfd, fn) }

func withDescriptor(file *os.File, fn func(fd int)) error {
	if file == nil {
		return lane.ErrDied
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return lane.ErrDied
	}
	if raw.Control(func(fd uintptr) { fn(int(fd)) }) != nil {
		return lane.ErrDied
	}
	return nil
}

// Kill kills the process, which counts as dead at once. It is gone a moment later, or not at all while a thread of it
// hangs in the kernel.
func (p *Process) Kill() {
	p.withPidfd(func(pidfd int) { unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) })
	p.die()
}

// Gone is closed when the process is gone.
func (p *Process) Gone() <-chan struct{} { return p.gone }

// Dead is closed when the process is gone, or was killed.
func (p *Process) Dead() <-chan struct{} { return p.dead }

// IsDead reports whether the process is known to be gone, or was killed.
func (p *Process) IsDead() bool {
	select {
	case <-p.dead:
		return true
	default:
		return false
	}
}

// Stop ends the process, gracefully if it still answers, and releases what it had.
func (p *Process) Stop() {
	p.stopOnce.Do(func() {
		if p.client != nil {
			p.stopClient()
		}
		p.awaitCleaned()
		p.Lanes.Close()
		if p.pidfd != nil {
			p.pidfd.Close()
		}
		if p.sockets != nil {
			p.sockets.Close()
		}
	})
}

// awaitCleaned waits until the cgroups are removed, unless a process that cannot end keeps them.
func (p *Process) awaitCleaned() {
	select {
	case <-p.cleaned:
	case <-time.After(stopGrace):
	}
}

// stopClient ends the process and go-plugin's use of it. go-plugin waits for a process that does not answer, and for
// the end of its standard error, which a child may hold open: neither may keep us.
func (p *Process) stopClient() {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		p.client.Kill()
	}()
	for range 2 {
		select {
		case <-stopped:
			return
		case <-time.After(stopGrace):
			p.Kill()
		}
	}
}

// grpcClient glues the client to go-plugin.
type grpcClient struct {
	plugin.NetRPCUnsupportedPlugin
}

func (grpcClient) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("the broker serves no plugin")
}

func (grpcClient) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}
