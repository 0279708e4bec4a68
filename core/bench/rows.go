package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/intercede/intercede/core/audit"
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
	getpgid = "getpgid"
	sysinfo = "sysinfo"
	mknod   = "mknod"
)

// nodePath lies in the container's root filesystem, an overlay on the host's files.
const nodePath = "/tmp/intercede-bench"

func calls() map[string]caller.Call {
	return map[string]caller.Call{
		getppid: caller.Getppid(),
		getpgid: caller.Getpgid(),
		sysinfo: caller.Sysinfo(),
		mknod:   caller.Mknod(nodePath, 1, 3), // null(4)
	}
}

// Manifests make filters that notify one call, or what the plugin noop takes.
var (
	getppidManifest = &proto.Manifest{Name: noopName, Syscalls: []*proto.Syscall{{Name: getppid}}}
	noopManifest    = &proto.Manifest{Name: noopName, Syscalls: []*proto.Syscall{{Name: getppid}, {Name: getpgid}}}
	mknodManifest   = &proto.Manifest{Name: mknod, Syscalls: []*proto.Syscall{{Name: "mknod"}, {Name: "mknodat"}}}
)

// row is a way that a call goes, measured in a container of its own.
type row struct {
	key        string // as benchmarks are named
	name       string
	call       string
	manifests  []*proto.Manifest // what is notified; none: nothing
	supervisor caller.Supervisor // nil with no manifests
	slowness   int               // by what its calls are fewer than those of others

	container *caller.Container
	rounds    []caller.Durations
	share     share
}

// share is what plugins have of the time between receipt and answer of a row's calls.
type share struct {
	mu            sync.Mutex
	plugin, whole time.Duration
}

func (s *share) add(r audit.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plugin += r.InPlugin
	s.whole += r.Duration
}

// open starts the supervisors of all rows that can be measured. The first row is what the others are compared with.
func (b *bench) open(ctx context.Context, setup *daemon.Setup, log zerolog.Logger) error {
	b.add(&row{key: "bare", name: "bare supervisor (getppid)", call: getppid, manifests: []*proto.Manifest{getppidManifest}, supervisor: bare{}})
	if err := b.openNoop(ctx, setup.Policy.Broker, log); err != nil {
		return err
	}
	if err := b.openPlugins(setup, log); err != nil {
		return err
	}
	if b.options.Exec != nil {
		b.add(&row{key: "exec-mknod", name: "mknod by a program executed for each call", call: mknod, manifests: []*proto.Manifest{mknodManifest}, supervisor: execute{b.options.Exec}, slowness: 50})
	}
	b.add(&row{key: "native-getppid", name: "not intercepted: getppid", call: getppid})
	b.add(&row{key: "native-sysinfo", name: "not intercepted: sysinfo", call: sysinfo})
	return nil
}

func (b *bench) openNoop(ctx context.Context, config policy.Broker, log zerolog.Logger) error {
	for _, r := range []*row{
		{key: "noop", name: "plugin that returns at once (getppid)"},
		{key: "noop-grpc", name: "the same over gRPC, without a lane"},
	} {
		started, err := startNoop(ctx, config, r.key == "noop-grpc", log)
		if errors.Is(err, fs.ErrNotExist) {
			b.leaveOut(r.name, fmt.Sprintf("there is no %s%s in %s", proto.BinaryPrefix, noopName, config.PluginDir))
			continue
		}
		if err != nil {
			return err
		}
		b.supervise(started)
		if r.key == "noop" {
			b.noop = started
		}
		started.Observe(r.share.add)
		r.call, r.manifests, r.supervisor = getppid, []*proto.Manifest{noopManifest}, started
		b.add(r)
	}
	return nil
}

// openPlugins starts the plugins of the config, all of which each of its rows has, as its containers would.
func (b *bench) openPlugins(setup *daemon.Setup, log zerolog.Logger) error {
	engine, err := daemon.Start(setup, log)
	if err != nil {
		return err
	}
	b.supervise(engine)
	b.engine = engine
	rows := map[string]*row{}
	for _, r := range []*row{
		{key: "sysinfo", name: "plugin sysinfo", call: sysinfo},
		{key: "mknod", name: "plugin mknod, in the root filesystem", call: mknod},
	} {
		enabled := slices.ContainsFunc(setup.Policy.Plugins, func(p policy.Plugin) bool { return p.Name == r.key && p.Enabled })
		if !enabled {
			b.leaveOut(r.name, fmt.Sprintf("the config does not enable it: add [plugins.%s]", r.key))
			continue
		}
		r.manifests, r.supervisor = setup.Manifests, engine
		rows[r.key] = r
		b.add(r)
	}
	engine.Observe(func(record audit.Record) {
		if r := rows[record.Outcome.Plugin]; r != nil {
			r.share.add(record)
		}
	})
	return nil
}

// start starts the row's container.
func (r *row) start(ctx context.Context, command []string) error {
	var err error
	r.container, err = startCaller(ctx, command, r.manifests, r.supervisor)
	return err
}

func startCaller(ctx context.Context, command []string, manifests []*proto.Manifest, supervisor caller.Supervisor) (*caller.Container, error) {
	options := run.Options{Args: command}
	if len(manifests) > 0 {
		var err error
		if options.Filter, err = filter.Program(manifests, run.ReservedSyscalls()); err != nil {
			return nil, err
		}
	}
	return caller.Start(ctx, options, supervisor)
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

// durations are those of all rounds.
func (r *row) durations() caller.Durations { return slices.Concat(r.rounds...) }
