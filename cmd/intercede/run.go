package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/daemon"
	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/core/intake/oci"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/core/run"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// runFlags are the flags of run that are not of the container.
type runFlags struct {
	config      cli.ConfigFlags
	logging     logFlags
	annotations []string
	socket      string
}

func runCommand() *cobra.Command {
	var flags runFlags
	var options run.Options
	c := &cobra.Command{
		Use:   "run [flags] -- CMD ARG...",
		Short: "Run a command in an unprivileged container with interception",
		Long: `Run makes an unprivileged container: user, mount, pid, uts, ipc and cgroup namespaces, with the container's root
mapped to a high user id. The calls that the enabled plugins take are answered by them: by a broker of its own, or, with
--socket, by the daemon that serves there (whose config should enable what this one does).

--mount and --tmpfs take the options ro, nosuid, nodev, noexec and noatime, and the opposites rw, suid, dev and exec. The
container cannot take them away, nor what the host's own mounts have. With idmap, root of the container owns what root of
the host owns. A tmpfs takes size, nr_inodes, nr_blocks, mode, uid and gid too. A target that is a symbolic link is
followed inside the container's root. One that is missing is made.

A mount hides nothing from a container that may rename its target: that may move the target away, where the mount does not
follow. So do not mount over what a container must not see, but leave it out. In the same way the container can end what the
host has mounted below a directory that it may write to. With --ephemeral, and without --rootfs, it sees what the host's
mounts below DIR cover.

What the container's root makes in DIR of --rootfs, and in a mount with idmap, belongs to root of the host: a set-user-ID
program or a device node too. So other users of the host must not be able to reach these directories (chmod 700), unless
the changes are discarded (--ephemeral, ro).

If intercede is killed with SIGKILL, the container dies too, but its empty cgroups stay: remove them with rmdir. Their
names are intercede- and 16 hexadecimal digits.

The exit status is the command's; 127 if it is not found, 126 if it cannot be executed, 2 if the command line is wrong.`,
		Example: "  intercede run --memory 64m -- sh -c 'mknod /tmp/null c 1 3 && free'",
		Args:    wantCommand,
		PreRunE: cli.RequireRoot,
		RunE: func(c *cobra.Command, args []string) error {
			options.Args = args
			if err := errors.Join(options.Check(), flags.logging.check()); err != nil {
				return cli.Usagef("%w\nTry '%s --help'", err, c.CommandPath())
			}
			options.Stdin, options.Stdout, options.Stderr = os.Stdin, os.Stdout, os.Stderr
			return exitWith(runContainer(c.Context(), &flags, options))
		},
	}
	flags.config.Register(c)
	flags.logging.register(c)
	f := c.Flags()
	f.SetInterspersed(false)
	f.StringArrayVar(&flags.annotations, "annotation", nil, "annotation `K=V` of the container, may be repeated")
	f.StringVar(&flags.socket, "socket", "", "runtime `SOCKET` of a running daemon that answers the container's calls")
	registerContainer(c, &options)
	return c
}

func wantCommand(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New("want a command after --")
	}
	return nil
}

// registerContainer adds the flags of the container.
func registerContainer(c *cobra.Command, options *run.Options) {
	f := c.Flags()
	f.StringVar(&options.Rootfs, "rootfs", "", "`DIR` that becomes the root; without it the host's files, changes discarded")
	f.BoolVar(&options.Ephemeral, "ephemeral", false, "discard changes to the rootfs")
	f.StringVar(&options.Name, "name", "", "host name of the container")
	f.Var((*byteSize)(&options.Memory), "memory", "memory limit: `SIZE` in bytes, or with b, k, m or g")
	f.StringArrayVar(&options.Devices, "device-cgroup-rule", nil, "let the container open a device node: `RULE` \"c 10:229 rw\", may be repeated")
	f.StringArrayVar(&options.DeviceNodes, "device", nil, "give the container a device node: `SOURCE[:TARGET[:rwm]]`, may be repeated")
	f.StringArrayVar(&options.Mounts, "mount", nil,
		"mount: `type=bind,source=PATH,target=PATH[,ro][,idmap]` or type=tmpfs,target=DIR, may be repeated")
	f.StringArrayVar(&options.Tmpfs, "tmpfs", nil, "mount a tmpfs: `DIR[:OPTIONS]`, may be repeated")
	f.StringArrayVar(&options.Ulimits, "ulimit", nil, "limit of the command: `NAME=SOFT[:HARD]`, may be repeated")
	f.StringArrayVar(&options.UIDMap, "uidmap", nil, "user ids `CONTAINER:HOST[:SIZE]`, may be repeated; for group ids too, without --gidmap")
	f.StringArrayVar(&options.GIDMap, "gidmap", nil, "group ids `CONTAINER:HOST[:SIZE]`, may be repeated; for user ids too, without --uidmap")
	f.StringSliceVar(&options.CapDrop, "cap-drop", nil, "drop the capability `CAP`, or all; may be repeated")
	f.StringVarP(&options.User, "user", "u", "", "`USER[:GROUP]` that runs the command")
	f.StringArrayVarP(&options.Env, "env", "e", nil, "environment variable `K=V`, may be repeated")
	f.StringVarP(&options.Workdir, "workdir", "w", "", "working `DIR` of the command")
}

// byteSize is a flag's number of bytes, as podman's --memory has it.
type byteSize int64

var byteSizeText = regexp.MustCompile(`^([0-9]+)([bkmgBKMG]?)$`)

// Set reads a number that b, k, m or g may follow.
func (s *byteSize) Set(text string) error {
	parts := byteSizeText.FindStringSubmatch(text)
	if parts == nil {
		return errors.New("want a number of bytes, or a number with the unit b, k, m or g, such as 64m; 0: no limit")
	}
	unit := int64(1) << map[string]int{"k": 10, "m": 20, "g": 30}[strings.ToLower(parts[2])]
	number, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || number > math.MaxInt64/2/unit {
		return fmt.Errorf("it is too much: want at most %d bytes", int64(math.MaxInt64/2))
	}
	*s = byteSize(number * unit)
	return nil
}

func (s *byteSize) String() string { return strconv.FormatInt(int64(*s), 10) }

// Type is what pflag calls such a value.
func (s *byteSize) Type() string { return "size" }

func runContainer(ctx context.Context, flags *runFlags, options run.Options) (status int, err error) {
	annotations, err := parsePairs("annotation", flags.annotations)
	if err != nil {
		return 0, err
	}
	setup, err := flags.config.Load(ctx)
	if err != nil {
		return 0, err
	}
	if options.Filter, err = filter.Program(setup.Manifests, run.ReservedSyscalls()); err != nil {
		return 0, err
	}
	if flags.socket != "" {
		return runDelivered(ctx, options, func(c *run.Container) error {
			return sendListener(ctx, c, flags.socket, named(annotations, options.Name))
		})
	}
	log, flush, err := flags.openLog(setup)
	if err != nil {
		return 0, err
	}
	defer flush()
	engine, err := daemon.Start(ctx, setup, broker.State{}, log)
	if err != nil {
		return 0, err
	}
	defer engine.Close()
	return runAttached(ctx, engine, options, annotations)
}

// runAttached runs a container whose calls go to the engine.
func runAttached(ctx context.Context, engine *daemon.Engine, options run.Options, annotations map[string]string) (status int, err error) {
	return runDelivered(ctx, options, func(c *run.Container) error {
		claim := container.Claim{
			ID: c.ID(), Runtime: config.RuntimeRun, Name: options.Name, Annotations: annotations, PID: c.InitPID(),
			CgroupsPath: run.CgroupsPath(c.ID()),
		}
		return engine.Attach(ctx, c.Listener(), claim)
	})
}

// openLog logs warnings, or what --log-level says: what the broker has to say else would disturb the command's output.
func (f *runFlags) openLog(setup *daemon.Setup) (log zerolog.Logger, flush func(), err error) {
	log, flush, err = f.logging.open(setup.Policy.Broker)
	if f.logging.level == "" {
		log = log.Level(max(log.GetLevel(), zerolog.WarnLevel))
	}
	return log, flush, err
}

// parsePairs reads the K=V pairs of a flag.
func parsePairs(flag string, pairs []string) (map[string]string, error) {
	values := map[string]string{}
	for _, pair := range pairs {
		key, value, found := strings.Cut(pair, "=")
		if !found || key == "" {
			return nil, cli.Usagef("--%s %q: want K=V", flag, pair)
		}
		values[key] = value
	}
	return values, nil
}

// runDelivered runs a container whose listener goes where deliver brings it.
func runDelivered(ctx context.Context, options run.Options, deliver func(*run.Container) error) (status int, err error) {
	ctx, forwarded := endedBySignal(ctx)
	defer forwarded()
	options.Warn = func(text string) { fmt.Fprintln(os.Stderr, "intercede: "+text) }
	c, err := run.Start(ctx, options)
	var command *run.CommandError
	if errors.As(err, &command) {
		return 0, &cli.ExitError{Status: command.Status, Err: command}
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	defer c.ForwardSignals()()
	forwarded()
	// A command that has ended already, or that a signal has ended, needs no interception any more.
	if err := deliver(c); err != nil && !errors.Is(err, os.ErrProcessDone) && ctx.Err() == nil {
		return 0, fmt.Errorf("container %s: %w", c.ID(), err)
	}
	return c.Wait()
}

// endedBySignal is a context that SIGINT, SIGTERM, SIGHUP and SIGQUIT end until stop is called: they would end the
// program, and what it has made for a container would be left. Later ones have no effect here, and do not end the program either.
func endedBySignal(ctx context.Context) (until context.Context, stop func()) {
	until, cancel := context.WithCancelCause(ctx)
	signals, stopped := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	go func() {
		select {
		case s := <-signals:
			cancel(fmt.Errorf("ended by a signal: %v", s))
		case <-stopped:
		}
	}()
	return until, sync.OnceFunc(func() { close(stopped) })
}

// exitWith ends the program with the status of a container's command, unless something else went wrong.
func exitWith(status int, err error) error {
	if err == nil && status != 0 {
		return &cli.ExitError{Status: status}
	}
	return err
}

// named adds the container's name to its annotations, unless it has one there.
func named(annotations map[string]string, name string) map[string]string {
	if _, given := annotations[policy.NameAnnotation]; name == "" || given {
		return annotations
	}
	added := map[string]string{policy.NameAnnotation: name}
	maps.Copy(added, annotations)
	return added
}

// sendListener gives the container's listener to the daemon, as an OCI runtime would.
func sendListener(ctx context.Context, c *run.Container, socket string, annotations map[string]string) error {
	defer c.Listener().Close()
	path, err := filepath.Abs(socket)
	if err != nil {
		return err
	}
	return oci.Send(ctx, path, specs.ContainerProcessState{
		Version: specs.Version,
		Pid:     c.InitPID(),
		State: specs.State{
			Version: specs.Version, ID: c.ID(), Status: specs.StateCreating, Pid: c.InitPID(), Annotations: annotations,
		},
	}, c.Listener())
}
