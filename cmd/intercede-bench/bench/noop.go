package bench

import (
	"context"
	"path/filepath"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/wire"
	"github.com/rs/zerolog"
)

// noopName is a plugin that is installed with the others for this measurement. It is a program of its own, so that it
// is started, sized and sandboxed as every plugin is.
const noopName = "noop"

// startNoop starts a broker with this one plugin; overGRPC without lanes. The error says what is wrong with the
// plugin's binary.
func startNoop(ctx context.Context, settings config.Broker, overGRPC bool, log zerolog.Logger) (*broker.Broker, error) {
	spec := launcher.Spec{Name: noopName, Path: filepath.Join(settings.PluginDir, wire.BinaryPrefix+noopName), GRPC: overGRPC}
	manifest, err := launcher.ReadManifest(ctx, spec)
	if err != nil {
		return nil, err
	}
	routes, err := filter.Resolve([]*wire.Manifest{manifest})
	if err != nil {
		return nil, err
	}
	plugin, err := launcher.Start(ctx, spec, manifest, log)
	if err != nil {
		return nil, err
	}
	// So many that the slow calls are all under way beside quick ones.
	inflight := max(settings.MaxInflight, 2*slowCalls)
	generation := &broker.Generation{
		Bindings:    []broker.Binding{{Plugin: plugin, Settings: "{}", Deadline: settings.Deadline, OnFailure: manifest.GetOnFailure()}},
		Limits:      broker.Limits{MaxInflight: inflight},
		SyscallName: routes.Name,
		Released:    plugin.Stop,
	}
	broker, err := broker.New(broker.Config{Generation: generation, Log: log})
	if err != nil {
		plugin.Stop()
	}
	return broker, err
}
