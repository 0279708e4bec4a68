package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/intercede/intercede/core/bench/caller"
	"github.com/intercede/intercede/core/daemon"
	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/sdk/proto"
	"github.com/rs/zerolog"
)

// Names of the calls that the program in the containers makes.
const (
	getppid = "getppid"
	sysinfo = "sysinfo"
	mknod   = "mknod"
)

// nodePath lies in the container's root filesystem, an overlay on the host's files.
const nodePath = "/tmp/intercede-bench"

func calls() map[string]caller.Call {
	return map[string]caller.Call{
		getppid: caller.Getppid(),
		sysinfo: caller.Sysinfo(),
		mknod:   caller.Mknod(nodePath, 1, 3), // null(4)
	}
}

// getppidManifest makes a filter that notifies what the plugin noop takes.
var getppidManifest = &proto.Manifest{Name: noopName, Syscalls: []*proto.Syscall{{Name: getppid}}}

// row is a way that a call goes, measured in a container of its own.
type row struct {
	name       string
	call       string
	manifests  []*proto.Manifest // what is notified; none: nothing
	supervisor caller.Supervisor // nil with no manifests

	container *caller.Container
	durations caller.Durations
}

// open starts the supervisors of all rows that can be measured. The first row is what the others are compared with.
func (b *bench) open(ctx context.Context, setup *daemon.Setup, log zerolog.Logger) error {
	b.add(&row{name: "bare supervisor (getppid)", call: getppid, manifests: []*proto.Manifest{getppidManifest}, supervisor: bare{}})
	if err := b.openNoop(ctx, setup.Policy.Broker, log); err != nil {
		return err
	}
	if err := b.openPlugins(setup, log); err != nil {
		return err
	}
	b.add(&row{name: "not intercepted: getppid", call: getppid})
	b.add(&row{name: "not intercepted: sysinfo", call: sysinfo})
	return nil
}

func (b *bench) openNoop(ctx context.Context, config policy.Broker, log zerolog.Logger) error {
	const name = "broker, plugin that returns at once (getppid)"
	broker, err := startNoop(ctx, config, log)
	if errors.Is(err, fs.ErrNotExist) {
		b.leaveOut(name, fmt.Sprintf("there is no %s%s in %s", proto.BinaryPrefix, noopName, config.PluginDir))
		return nil
	}
	if err != nil {
		return err
	}
	b.supervise(broker)
	b.add(&row{name: name, call: getppid, manifests: []*proto.Manifest{getppidManifest}, supervisor: broker})
	return nil
}

// openPlugins starts the plugins of the config, all of which each of its rows has, as its containers would.
func (b *bench) openPlugins(setup *daemon.Setup, log zerolog.Logger) error {
	engine, err := daemon.Start(setup, log)
	if err != nil {
		return err
	}
	b.supervise(engine)
	for _, r := range []struct{ name, call string }{{"plugin sysinfo", sysinfo}, {"plugin mknod, in the root filesystem", mknod}} {
		enabled := slices.ContainsFunc(setup.Policy.Plugins, func(p policy.Plugin) bool { return p.Name == r.call })
		if !enabled {
			b.leaveOut(r.name, fmt.Sprintf("the config does not enable it: add [plugins.%s]", r.call))
			continue
		}
		b.add(&row{name: r.name, call: r.call, manifests: setup.Manifests, supervisor: engine})
	}
	return nil
}

// start starts the row's container.
func (r *row) start(ctx context.Context, command []string) error {
	options := run.Options{Args: command}
	var err error
	if len(r.manifests) > 0 {
		if options.Filter, err = filter.Program(r.manifests, run.ReservedSyscalls()); err != nil {
			return err
		}
	}
	r.container, err = caller.Start(ctx, options, r.supervisor)
	return err
}

// measure makes the call n times.
func (r *row) measure(ctx context.Context, n int) (caller.Durations, error) {
	durations, errno, err := r.container.Measure(ctx, r.call, n)
	if err == nil && errno != 0 {
		err = fmt.Errorf("%s in the container failed: %w", r.call, errno)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", r.name, err)
	}
	return durations, err
}
