package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/intercede/intercede/cmd/intercede-bench/caller"
	"github.com/intercede/intercede/cmd/intercede-bench/disk"
	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/daemon"
	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/internal/wire"
	"github.com/rs/zerolog"
)

// Names of the calls that the program in the containers makes. Those of plugins are the plugins'.
const (
	getppid  = "getppid"
	getpgid  = "getpgid"
	sysinfo  = "sysinfo"
	mknod    = "mknod"
	setxattr = "setxattr"
	sched    = "sched"
	bpf      = "bpf"
	mount    = "mount"
)

// nodePath and opaquePath lie in the container's root filesystem, an overlay on the host's files.
const (
	nodePath   = "/tmp/intercede-bench"
	opaquePath = "/tmp/intercede-bench-dir"
)

func calls(args []string) (map[string]caller.Call, error) {
	opaque, err := caller.Setxattr(opaquePath, "trusted.overlay.opaque", 'y')
	scheduler, _ := caller.Setscheduler(10)
	if err != nil {
		return nil, err
	}
	made := map[string]caller.Call{
		getppid:  caller.Getppid(),
		getpgid:  caller.Getpgid(),
		sysinfo:  caller.Sysinfo(),
		mknod:    caller.Mknod(nodePath, 1, 3), // null(4)
		setxattr: opaque,
		sched:    scheduler,
		bpf:      caller.LoadDeviceProgram(),
	}
	if len(args) == 0 {
		return made, nil
	}
	minor, err := strconv.ParseUint(args[0], 10, 20)
	if err == nil {
		made[mount], err = mountCall(uint32(minor))
	}
	return made, err
}

// pluginCalls are what the plugins of the config are measured with, and what is measured for comparison.
var pluginCalls = []struct {
	call, name string
	executed   []*wire.Manifest // what is notified where a program is executed for each call; nil: it is not measured
}{
	{sysinfo, "sysinfo", notifying("sysinfo")},
	{mknod, "mknod, in the root filesystem", notifying("mknod", "mknodat")},
	{setxattr, "setxattr trusted.overlay.opaque", notifying("setxattr")},
	{sched, "sched_setscheduler SCHED_FIFO", notifying("sched_setscheduler")},
	{call: bpf, name: "bpf BPF_PROG_LOAD of two instructions"},
}

// notifying is for a filter that notifies these calls.
func notifying(syscalls ...string) []*wire.Manifest {
	m := &wire.Manifest{Name: "bench"}
	for _, name := range syscalls {
		m.Syscalls = append(m.Syscalls, &wire.Syscall{Name: name})
	}
	return []*wire.Manifest{m}
}

// noopCalls are those of the plugin noop.
var noopCalls = notifying(getppid, getpgid)

// row is a way that a call goes, measured in a container of its own.
type row struct {
	key        string // as benchmarks are named
	name       string
	call       string
	manifests  []*wire.Manifest  // what is notified
	supervisor caller.Supervisor // nil: root of the host makes the call
	slowness   int               // divides the number of its calls
	devices    []string          // that its container may open

	container *caller.Caller
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
	b.add(&row{key: "bare", name: "bare supervisor (getppid)", call: getppid, manifests: notifying(getppid), supervisor: bare{}})
	if err := b.openNoop(ctx, setup.Policy.Broker, log); err != nil {
		return err
	}
	if err := b.openPlugins(ctx, setup, log); err != nil {
		return err
	}
	if err := b.openMount(ctx, setup.Policy.Broker.PluginDir, log); err != nil {
		return err
	}
	if b.options.Exec != nil {
		for _, c := range pluginCalls {
			if c.executed != nil {
				b.add(&row{
					key: "exec-" + c.call, name: "a program executed: " + c.name, call: c.call, manifests: c.executed,
					supervisor: execute{b.options.Exec}, slowness: 50,
				})
			}
		}
	}
	b.add(&row{key: "native-getppid", name: "root of the host: getppid", call: getppid})
	for _, c := range pluginCalls {
		b.add(&row{key: "native-" + c.call, name: "root of the host: " + c.name, call: c.call})
	}
	return nil
}

func (b *bench) openNoop(ctx context.Context, settings config.Broker, log zerolog.Logger) error {
	for _, r := range []*row{
		{key: "noop", name: "plugin that returns at once (getppid)"},
		{key: "noop-grpc", name: "the same over gRPC, without a lane"},
	} {
		started, err := startNoop(ctx, settings, r.key == "noop-grpc", log)
		if errors.Is(err, fs.ErrNotExist) {
			b.leaveOut(r.name, fmt.Sprintf("there is no %s%s in %s", wire.BinaryPrefix, noopName, settings.PluginDir))
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
		r.call, r.manifests, r.supervisor = getppid, noopCalls, started
		b.add(r)
	}
	return nil
}

// openPlugins starts the plugins of the config, all of which each of its rows has, as its containers would.
func (b *bench) openPlugins(ctx context.Context, setup *daemon.Setup, log zerolog.Logger) error {
	engine, err := daemon.Start(ctx, setup, broker.State{}, log)
	if err != nil {
		return err
	}
	b.supervise(engine)
	b.engine = engine
	rows := map[string]*row{}
	for _, c := range pluginCalls {
		r := &row{key: c.call, name: "plugin " + c.name, call: c.call, manifests: setup.Manifests, supervisor: engine}
		if reason := missing(setup, c.call); reason != "" {
			b.leaveOut(r.name, reason)
			continue
		}
		rows[c.call] = r
		b.add(r)
	}
	engine.Observe(func(record audit.Record) {
		if r := rows[record.Outcome.Plugin]; r != nil {
			r.share.add(record)
		}
	})
	return nil
}

// missing is why the plugin cannot be measured; empty if it can.
func missing(setup *daemon.Setup, name string) string {
	i := slices.IndexFunc(setup.Policy.Plugins, func(p policy.Plugin) bool { return p.Name == name && p.Enabled })
	switch {
	case i < 0:
		return fmt.Sprintf("the config does not enable it: add [plugins.%s] with grant = \"manifest\"", name)
	case len(setup.Manifests[i].GetSyscalls()) == 0:
		return fmt.Sprintf("the config leaves it nothing to do: see [plugins.%s.config]", name)
	default:
		return ""
	}
}

// start starts the row's container, or the process that needs none.
func (r *row) start(ctx context.Context, options Options, d disk.Disk) error {
	var args []string
	if r.call == mount {
		args = []string{strconv.Itoa(int(d.Minor))}
	}
	var err error
	if r.supervisor == nil {
		r.container, err = caller.StartNative(ctx, slices.Concat(options.Native, args))
	} else {
		r.container, err = startCaller(ctx, r.options(slices.Concat(options.Caller, args)), r.manifests, r.supervisor)
	}
	return err
}

func startCaller(ctx context.Context, options run.Options, manifests []*wire.Manifest, supervisor caller.Supervisor) (*caller.Caller, error) {
	program, err := filter.Program(manifests, run.ReservedSyscalls())
	if err != nil {
		return nil, err
	}
	options.Filter = program
	return caller.Start(ctx, options, supervisor)
}

// measure makes the call n times, with a pause before each.
func (r *row) measure(ctx context.Context, n int, pause time.Duration) (caller.Durations, error) {
	durations, errno, err := r.container.Measure(ctx, r.call, n, pause)
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
