package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/daemon"
	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/core/run"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

func runCommand() *cobra.Command {
	var config configFlags
	var options run.Options
	var annotations map[string]string
	c := &cobra.Command{
		Use:   "run [flags] -- CMD ARG...",
		Short: "Run a command in an unprivileged container with interception",
		Long: `Run makes an unprivileged container: user, mount, pid, uts, ipc and cgroup namespaces, with the container's root
mapped to a high user id. The calls that the enabled plugins take are answered by them.

The exit status is the command's; 127 if it is not found, 126 if it cannot be executed.`,
		Example: "  intercede run --memory 67108864 -- sh -c 'mknod /tmp/null c 1 3 && free'",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			options.Args = args
			options.Stdin, options.Stdout, options.Stderr = os.Stdin, os.Stdout, os.Stderr
			return runContainer(c.Context(), config, options, annotations)
		},
	}
	config.register(c)
	f := c.Flags()
	f.SetInterspersed(false)
	f.StringVar(&options.Rootfs, "rootfs", "", "`DIR` that becomes the root; without it the host's files, changes discarded")
	f.BoolVar(&options.Ephemeral, "ephemeral", false, "discard changes to the rootfs")
	f.StringVar(&options.Name, "name", "", "host name of the container")
	f.StringToStringVar(&annotations, "annotation", nil, "annotation `K=V` of the container, may be repeated")
	f.Int64Var(&options.Memory, "memory", 0, "memory limit in `BYTES`")
	f.StringSliceVar(&options.CapDrop, "cap-drop", nil, "drop the capability `CAP`, or all; may be repeated")
	f.StringVarP(&options.User, "user", "u", "", "`USER[:GROUP]` that runs the command")
	f.StringArrayVarP(&options.Env, "env", "e", nil, "environment variable `K=V`, may be repeated")
	f.StringVarP(&options.Workdir, "workdir", "w", "", "working `DIR` of the command")
	return c
}

// runContainer runs a container with a broker of its own.
func runContainer(ctx context.Context, config configFlags, options run.Options, annotations map[string]string) error {
	policyOptions, err := config.options()
	if err != nil {
		return err
	}
	setup, problems := daemon.Load(ctx, config.path, policyOptions)
	if len(problems) > 0 {
		return printProblems(problems)
	}
	if options.Filter, err = filter.Program(setup.Manifests, run.ReservedSyscalls()); err != nil {
		return err
	}
	log, err := newLogger(setup.Policy.Broker.LogLevel, setup.Policy.Broker.LogFormat)
	if err != nil {
		return err
	}
	engine, err := daemon.Start(setup, log.Level(max(log.GetLevel(), zerolog.WarnLevel)))
	if err != nil {
		return err
	}
	defer engine.Close()
	status, err := runAttached(ctx, engine, options, annotations)
	if err != nil {
		return err
	}
	if status != 0 {
		return &exitError{status: status}
	}
	return nil
}

func runAttached(ctx context.Context, engine *daemon.Engine, options run.Options, annotations map[string]string) (int, error) {
	c, err := run.Start(ctx, options)
	var command *run.CommandError
	if errors.As(err, &command) {
		return 0, &exitError{command.Status, command}
	}
	if err != nil {
		return 0, err
	}
	defer c.Close()
	claim := container.Claim{ID: c.ID(), Runtime: "run", Annotations: annotations, PID: c.InitPID()}
	if err := engine.Attach(ctx, c.Listener(), claim); err != nil {
		return 0, fmt.Errorf("container %s: %w", c.ID(), err)
	}
	defer c.ForwardSignals()()
	return c.Wait()
}
