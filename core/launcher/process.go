package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/intercede/intercede/sdk/proto"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	protobuf "google.golang.org/protobuf/proto"
)

const (
	startTimeout  = 10 * time.Second
	healthTimeout = 2 * time.Second
)

// process is one run of a plugin.
type process struct {
	client    *plugin.Client
	conn      *grpc.ClientConn
	rpc       proto.PluginClient
	pid       int
	pidfd     int
	socketDir string
	started   time.Time

	dead      chan struct{} // closed when the process is gone
	suspected atomic.Bool
	stopOnce  sync.Once
}

// userID is the user and group that the plugin's process has: no account has it, and no other plugin. It lies between
// the ids that containers get and 2^31.
func userID(name string) int {
	hash := fnv.New32a()
	io.WriteString(hash, name)
	return 2_000_000_000 + int(hash.Sum32()%1_000_000)
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
	}, nil
}

// startProcess starts the plugin and makes sure that it is the one whose manifest was read.
func startProcess(spec Spec, manifest *proto.Manifest, log hclog.Logger) (*process, error) {
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
	p := &process{pidfd: -1, dead: make(chan struct{}), started: time.Now()}
	if err := p.start(spec, manifest, log, binary, theirs); err != nil {
		ours.Close()
		p.stop()
		return nil, err
	}
	go func() {
		// The plugin's end closes when it dies, however it dies.
		io.Copy(io.Discard, ours)
		ours.Close()
		close(p.dead)
	}()
	return p, nil
}

// lifeline is a socket pair, an end for each: who reads end of file has lost the other.
func lifeline() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "lifeline"), os.NewFile(uintptr(fds[1]), "lifeline"), nil
}

func (p *process) start(spec Spec, manifest *proto.Manifest, log hclog.Logger, binary, lifeline *os.File) error {
	id := userID(spec.Name)
	cmd, err := sandboxed(sandbox{Name: spec.Path, ID: id, Capabilities: manifest.GetCapabilities()})
	if err != nil {
		return err
	}
	if p.socketDir, err = makeSocketDir(id); err != nil {
		return err
	}
	cmd.ExtraFiles = []*os.File{binary, lifeline}
	cmd.Env = append(cmd.Env,
		fmt.Sprintf("%s=%d", proto.LifelineEnv, lifelineFD),
		fmt.Sprintf("%s=%s", plugin.EnvUnixSocketDir, p.socketDir),
		"TMPDIR="+p.socketDir)
	p.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  proto.Handshake,
		VersionedPlugins: map[int]plugin.PluginSet{proto.ProtocolVersion: {proto.PluginName: grpcClient{}}},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Cmd:              cmd,
		SkipHostEnv:      true,
		StartTimeout:     startTimeout,
		Logger:           log,
	})
	protocol, err := p.client.Client()
	if err != nil {
		return fmt.Errorf("%s: %w", spec.Path, err)
	}
	service, err := protocol.Dispense(proto.PluginName)
	if err != nil {
		return fmt.Errorf("%s: %w", spec.Path, err)
	}
	p.conn = service.(*grpc.ClientConn)
	p.rpc = proto.NewPluginClient(p.conn)
	p.pid = p.client.ReattachConfig().Pid
	if p.pidfd, err = unix.PidfdOpen(p.pid, 0); err != nil {
		return fmt.Errorf("pidfd of the plugin: %w", err)
	}
	return p.compareManifest(manifest)
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

func (p *process) compareManifest(want *proto.Manifest) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	got, err := p.rpc.Manifest(ctx, &proto.ManifestRequest{})
	if err != nil {
		return fmt.Errorf("manifest of the running plugin: %w", err)
	}
	if !protobuf.Equal(got, want) {
		return errors.New("the running plugin has another manifest than its binary had when the config was read: restart intercede")
	}
	return nil
}

// suspect is called when the plugin missed a deadline: one that does not answer a health check either is killed. A
// plugin that is only slow goes on.
func (p *process) suspect(log hclog.Logger) {
	if !p.suspected.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer p.suspected.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
		defer cancel()
		_, err := grpc_health_v1.NewHealthClient(p.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: plugin.GRPCServiceName})
		if err != nil {
			log.Error("the plugin does not answer a health check: killing it", "pid", p.pid, "error", err)
			unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0)
		}
	}()
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
			p.client.Kill()
		}
		if p.pidfd >= 0 {
			unix.Close(p.pidfd)
		}
		if p.socketDir != "" {
			os.RemoveAll(p.socketDir)
		}
	})
}

// file takes the plugin's descriptor fd, to be put into a caller.
func (p *process) file(fd int) (*os.File, error) {
	if p.isDead() {
		return nil, ErrDied
	}
	copied, err := unix.PidfdGetfd(p.pidfd, fd, 0)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d of the plugin: %w", fd, err)
	}
	return os.NewFile(uintptr(copied), "descriptor of a plugin"), nil
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
