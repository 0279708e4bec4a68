package bench

import (
	"context"
	"path/filepath"

	"github.com/intercede/intercede/core"
	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/sdk/proto"
	"github.com/rs/zerolog"
)

// noopName is a plugin that is installed with the others for this measurement. It is a program of its own, and not a
// part of the intercede binary, so that it is started, sized and sandboxed as every plugin is.
const noopName = "noop"

// startNoop starts a broker with this one plugin; overGRPC without lanes. The error says what is wrong with the plugin's
// binary.
func startNoop(ctx context.Context, config policy.Broker, overGRPC bool, log zerolog.Logger) (*core.Broker, error) {
	spec := launcher.Spec{Name: noopName, Path: filepath.Join(config.PluginDir, proto.BinaryPrefix+noopName), GRPC: overGRPC}
	manifest, err := launcher.ReadManifest(ctx, spec)
	if err != nil {
		return nil, err
	}
	routes, err := filter.Resolve([]*proto.Manifest{manifest})
	if err != nil {
		return nil, err
	}
	plugin, err := launcher.Start(spec, manifest, log)
	if err != nil {
		return nil, err
	}
	p := &core.Policy{
		Uses:        []core.Use{{Plugin: plugin, Settings: "{}", Deadline: config.Deadline, OnFailure: manifest.GetOnFailure()}},
		Limits:      core.Limits{MaxInflight: config.MaxInflight},
		SyscallName: routes.Name,
		Released:    plugin.Stop,
	}
	broker, err := core.New(core.Config{Policy: p, Log: log})
	if err != nil {
		plugin.Stop()
	}
	return broker, err
}
