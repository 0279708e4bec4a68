package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	protobuf "google.golang.org/protobuf/proto"
)

const (
	startTimeout  = 10 * time.Second
	healthTimeout = 2 * time.Second
	// stopGrace is how long a plugin may take to end by itself.
	stopGrace = 3 * time.Second

	// maxHeader bounds the text of an error, which gRPC carries in a header, in bytes.
	maxHeader = 64 << 10
)

// process is one run of a plugin.
type process struct {
	client    *plugin.Client
	conn      *grpc.ClientConn
	rpc       wire.PluginClient
	pid       int
	pidfd     *os.File // of the very process that was started
	socketDir string
	address   string // of its socket; empty until it is known to be in socketDir
	started   time.Time

	lanesControl  *lane.End
	lanes         lanes
	entersCallers bool // it acts in the place of callers

	dead      chan struct{} // closed when the process is gone
	suspected atomic.Bool
	stopOnce  sync.Once
}

// userID is the user and group that the plugin's process has: no account has it and, unless two of 10^8 hashes are the
// same, no other plugin. It lies between the ids that containers and domain accounts get and 2^31.
func userID(name string) int {
	hash := fnv.New32a()
	io.WriteString(hash, name)
	return 2_000_200_000 + int(hash.Sum32()%100_000_000)
}

// sandboxed is the command that becomes the plugin, see Init. Its first extra file must be the plugin's binary.
func sandboxed(s sandbox) (*exec.Cmd, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	return &exec.Cmd{
		Path: "/proc/self/exe",
		Args: []string{sandboxName, string(text)},
		Env:  []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"},
		Dir:  "/",
		// No network, and none of the abstract sockets and System V objects of the host.
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWIPC},
	}, nil
}

// startProcess starts the plugin and makes sure that it is the one whose manifest was read.
func startProcess(spec Spec, manifest *wire.Manifest, log hclog.Logger) (*process, error) {
	binary, err := openBinary(spec.Path, spec.SHA256)
	if err != nil {
		return nil, err
	}
	defer binary.Close()
	ours, theirs, err := lifeline()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	p := &process{dead: make(chan struct{}), started: time.Now(), entersCallers: len(manifest.GetNamespaces()) > 0}
	started := make(chan error)
	go func() {
		// When the thread that started it ends, the kernel kills the plugin (PR_SET_PDEATHSIG, see becomePlugin).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer ours.Close()
		started <- p.start(spec, manifest, log, binary, theirs)
		p.awaitDeath()
	}()
	if err := <-started; err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// awaitDeath returns when the process is gone: a pidfd is then readable (pidfd_open(2)).
func (p *process) awaitDeath() {
	defer close(p.dead)
	p.withPidfd(func(pidfd int) {
		poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		for {
			if _, err := unix.Poll(poll, -1); err != unix.EINTR {
				return
			}
		}
	})
}

// lifeline is a socket pair, an end for each: who reads end of file has lost the other.
func lifeline() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "lifeline"), os.NewFile(uintptr(fds[1]), "lifeline"), nil
}

func (p *process) start(spec Spec, manifest *wire.Manifest, log hclog.Logger, binary, lifeline *os.File) error {
	id := userID(spec.Name)
	cmd, err := sandboxed(sandbox{Name: spec.Path, ID: id, Capabilities: manifest.GetCapabilities(), Lifeline: true})
	if err != nil {
		return err
	}
	if p.socketDir, err = makeSocketDir(id); err != nil {
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
	p.lanesControl = lane.New(control)
	cmd.ExtraFiles = []*os.File{binary, lifeline, lanesFile}
	cmd.Env = append(cmd.Env,
		fmt.Sprintf("%s=%d", wire.LanesEnv, lanesFD),
		fmt.Sprintf("%s=%d", wire.LifelineEnv, lifelineFD),
		fmt.Sprintf("%s=%s", plugin.EnvUnixSocketDir, p.socketDir),
		"TMPDIR="+p.socketDir)
	p.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake,
		VersionedPlugins: map[int]plugin.PluginSet{wire.ProtocolVersion: {wire.PluginName: grpcClient{}}},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Cmd:              cmd,
		SkipHostEnv:      true,
		StartTimeout:     startTimeout,
		Logger:           log,
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(wire.MaxMessage)),
			grpc.WithMaxHeaderListSize(maxHeader),
			grpc.WithContextDialer(p.dial),
		},
	})
	address, err := p.client.Start()
	if pidfd >= 0 {
		// Blocking, as the one that os/exec waits with: they share their description.
		p.pidfd = os.NewFile(uintptr(pidfd), "pidfd of a plugin")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", spec.Path, err)
	}
	if address.Network() != "unix" || filepath.Dir(address.String()) != p.socketDir {
		return fmt.Errorf("%s: serves on %s %q: want a socket in its own folder, %s", spec.Path, address.Network(), address, p.socketDir)
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
	p.conn = service.(*grpc.ClientConn)
	p.rpc = wire.NewPluginClient(p.conn)
	p.pid = p.client.ReattachConfig().Pid
	if err := p.compareManifest(manifest); err != nil {
		return err
	}
	if spec.GRPC {
		return nil
	}
	return p.openLanes()
}

// openLanes asks the plugin whether it takes lanes. One in another language may not know of them.
func (p *process) openLanes() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	answer, err := p.rpc.OpenLanes(ctx, &wire.OpenLanesRequest{})
	if err != nil && status.Code(err) != codes.Unimplemented {
		return fmt.Errorf("lanes of the plugin: %w", err)
	}
	if answer.GetAccepted() {
		return p.lanes.accept(p.lanesControl)
	}
	return nil
}

// dial connects to the plugin's socket, and to no other that it may name.
func (p *process) dial(ctx context.Context, _ string) (net.Conn, error) {
	if p.address == "" {
		return nil, errors.New("the plugin has no socket of its own")
	}
	return (&net.Dialer{}).DialContext(ctx, "unix", p.address)
}

// makeSocketDir makes the folder of the plugin's socket: nobody but the plugin and root may enter it.
func makeSocketDir(id int) (string, error) {
	dir, err := os.MkdirTemp("", "intercede-")
	if err != nil {
		return "", err
	}
	if err := os.Chown(dir, id, id); err != nil {
		os.Remove(dir)
		return "", err
	}
	return dir, nil
}

func (p *process) compareManifest(want *wire.Manifest) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	got, err := p.rpc.Manifest(ctx, &wire.ManifestRequest{})
	if err != nil {
		return fmt.Errorf("manifest of the running plugin: %w", err)
	}
	if !protobuf.Equal(got, want) {
		return errors.New("the running plugin has another manifest than its binary had when the config was read: restart intercede")
	}
	return nil
}

// suspectAfter suspects the plugin if the error is of a missed deadline, or of a connection that is not there.
func (p *process) suspectAfter(err error, log hclog.Logger) {
	code := status.Code(err)
	if errors.Is(err, context.DeadlineExceeded) || code == codes.DeadlineExceeded || code == codes.Unavailable {
		p.suspect(log)
	}
}

// suspect kills a plugin that does not answer a health check either. One that is only slow goes on.
func (p *process) suspect(log hclog.Logger) {
	if !p.suspected.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer p.suspected.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
		defer cancel()
		_, err := grpc_health_v1.NewHealthClient(p.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: plugin.GRPCServiceName})
		if err != nil && !p.isDead() {
			log.Error("the plugin does not answer a health check: killing it", "pid", p.pid, "error", err)
			p.kill()
		}
	}()
}

// withPidfd calls fn unless the pidfd is closed, and keeps it open meanwhile.
func (p *process) withPidfd(fn func(pidfd int)) error {
	if p.pidfd == nil {
		return ErrDied
	}
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return ErrDied
	}
	if raw.Control(func(fd uintptr) { fn(int(fd)) }) != nil {
		return ErrDied
	}
	return nil
}

func (p *process) kill() {
	p.withPidfd(func(pidfd int) { unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) })
}

// isDead says whether the process is known to be gone.
func (p *process) isDead() bool {
	select {
	case <-p.dead:
		return true
	default:
		return false
	}
}

// stop ends the process, gracefully if it still answers, and releases what it had.
func (p *process) stop() {
	p.stopOnce.Do(func() {
		if p.client != nil {
			p.stopClient()
		}
		p.lanes.close()
		if p.lanesControl != nil {
			p.lanesControl.Close()
		}
		if p.pidfd != nil {
			p.pidfd.Close()
		}
		if p.socketDir != "" {
			os.RemoveAll(p.socketDir)
		}
	})
}

// stopClient ends the process and go-plugin's use of it. go-plugin waits for a process that does not answer, and for
// the end of its standard error, which a child may hold open: neither may keep us.
func (p *process) stopClient() {
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
			p.kill()
		}
	}
}

// Descriptor is a descriptor of the broker's that a plugin has chosen. It is no os.File: the Go runtime would poll a
// description that has O_NONBLOCK, and whose filesystem may hold up for ever who does that.
type Descriptor struct {
	fd int
}

// FD is its number.
func (d *Descriptor) FD() int { return d.fd }

// Close closes it.
func (d *Descriptor) Close() { unix.Close(d.fd) }

// descriptor takes the plugin's descriptor fd, to be put into a caller.
func (p *process) descriptor(fd int) (*Descriptor, error) {
	copied, errno := -1, error(nil)
	if err := p.withPidfd(func(pidfd int) { copied, errno = unix.PidfdGetfd(pidfd, fd, 0) }); err != nil {
		return nil, err
	}
	if errno != nil {
		return nil, fmt.Errorf("descriptor %d of the plugin: %w", fd, errno)
	}
	return &Descriptor{copied}, nil
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
