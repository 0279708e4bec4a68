package launcher

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/intercede/intercede/internal/sandbox"
	"github.com/intercede/intercede/internal/wire"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	protobuf "google.golang.org/protobuf/proto"
)

const healthTimeout = 2 * time.Second

// process is one run of a plugin.
type process struct {
	*sandbox.Process
	started   time.Time
	suspected atomic.Bool
}

// startProcess starts the plugin and makes sure that it is the one whose manifest was read.
func startProcess(spec Spec, manifest *wire.Manifest, log hclog.Logger) (*process, error) {
	binary, err := openBinary(spec.Path, spec.SHA256)
	if err != nil {
		return nil, err
	}
	defer binary.Close()
	run, err := sandbox.Start(sandbox.Plugin{
		Name: spec.Name, Path: spec.Path, Binary: binary, Capabilities: manifest.GetCapabilities(), Log: log,
	})
	if err != nil {
		return nil, err
	}
	p := &process{Process: run, started: time.Now()}
	if err := p.prepare(spec, manifest); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

func (p *process) prepare(spec Spec, manifest *wire.Manifest) error {
	if err := p.compareManifest(manifest); err != nil {
		return err
	}
	if spec.GRPC {
		return nil
	}
	return p.OpenLanes()
}

func (p *process) compareManifest(want *wire.Manifest) error {
	ctx, cancel := context.WithTimeout(context.Background(), sandbox.StartTimeout)
	defer cancel()
	got, err := p.RPC.Manifest(ctx, &wire.ManifestRequest{})
	if err != nil {
		return fmt.Errorf("manifest of the running plugin: %w", err)
	}
	if !protobuf.Equal(got, want) {
		return errors.New("the running plugin has another manifest than its binary had when the config was read: restart intercede")
	}
	return nil
}

// suspectAfter suspects the plugin if the error means that it missed a deadline, or that its connection is broken.
func (p *process) suspectAfter(err error, log hclog.Logger) {
	code := status.Code(err)
	if errors.Is(err, context.DeadlineExceeded) || code == codes.DeadlineExceeded || code == codes.Unavailable {
		p.suspect(log)
	}
}

// suspect kills a plugin that does not answer a health check either. One that is only slow lives on.
func (p *process) suspect(log hclog.Logger) {
	if !p.suspected.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer p.suspected.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
		defer cancel()
		_, err := grpc_health_v1.NewHealthClient(p.Conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: plugin.GRPCServiceName})
		if err != nil && !p.IsDead() {
			log.Error("the plugin does not answer a health check: killing it", "pid", p.PID, "error", err)
			p.Kill()
		}
	}()
}
