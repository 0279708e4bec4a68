package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/core/logqueue"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/core/single"
	"github.com/intercede/intercede/core/strace"
	"github.com/spf13/cobra"
)

func pluginRunCommand() *cobra.Command {
	var plugin single.Options
	var settings []string
	var logging logFlags
	var options run.Options
	c := &cobra.Command{
		Use:   "run BINARY [--set KEY=VALUE]... -- CMD ARG...",
		Short: "Run a command in a container whose calls a plugin answers",
		Long: `Run starts the plugin BINARY, which needs no config and may be anybody's, in the sandbox that the daemon gives it, with all that its
manifest asks for. Then it runs the command in an unprivileged container, as "intercede run" does. Standard error has the plugin's
log, and each intercepted call as strace(1) prints it: with what the caller got, who decided that, and how long it took. After
"? (continue)" the kernel performed the call.

A value of --set is a string where the setting is one, or else a value as in config.toml.

The exit status is the command's; 127 if it is not found, 126 if it cannot be executed.`,
		Example: `  intercede plugin run ./intercede-plugin-hostname -- hostname elsewhere
  intercede plugin run /usr/libexec/intercede/intercede-plugin-mknod --set 'devices=["c 1:3"]' -- mknod /tmp/null c 1 3`,
		Args: func(c *cobra.Command, args []string) error {
			if c.ArgsLenAtDash() != 1 || len(args) < 2 {
				return cli.Usagef("want one BINARY, then --, then a command\nTry '%s --help'", c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if plugin.Settings, err = parsePairs("set", settings); err != nil {
				return err
			}
			plugin.Binary, options.Args = args[0], args[1:]
			options.Stdin, options.Stdout, options.Stderr = os.Stdin, os.Stdout, os.Stderr
			return exitWith(runWithPlugin(c.Context(), plugin, &logging, options))
		},
	}
	logging.register(c)
	f := c.Flags()
	f.StringArrayVar(&settings, "set", nil, "setting `KEY=VALUE` of the plugin, may be repeated")
	f.BoolVar(&plugin.GRPC, "grpc", false, "have all calls go over gRPC, also those of a plugin built on the SDK for Go")
	registerContainer(c, &options)
	return c
}

func runWithPlugin(ctx context.Context, options single.Options, logging *logFlags, container run.Options) (status int, err error) {
	starting, started := endedBySignal(ctx)
	defer started()
	plugin, err := single.Open(starting, options)
	var problems config.Problems
	if errors.As(err, &problems) {
		return 0, cli.PrintProblems(problems)
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, plugin.Close()) }()
	if container.Filter, err = filter.Program(plugin.Setup.Manifests, run.ReservedSyscalls()); err != nil {
		return 0, err
	}
	broker := plugin.Setup.Policy.Broker
	broker.LogFormat = "console"
	log, flush, err := logging.open(broker)
	if err != nil {
		return 0, err
	}
	defer flush()
	engine, err := plugin.Start(starting, log)
	if err != nil {
		return 0, err
	}
	defer printCalls(engine.Observe)()
	defer engine.Close() // before the rest is printed: the record of a call comes after its answer
	started()
	return runAttached(ctx, engine, container, nil)
}

// printCalls has observe print each call on standard error, whose reader holds up no call. What it returns prints the
// rest.
func printCalls(observe func(func(audit.Record))) (flush func()) {
	queue := logqueue.New(os.Stderr, func(dropped int) []byte {
		return fmt.Appendf(nil, "%d calls were not printed: the reader of standard error is slow\n", dropped)
	})
	observe(func(r audit.Record) {
		r.Caller = nil // its name would be there for some calls alone
		fmt.Fprintln(queue, strace.Of(r))
	})
	return func() { queue.Close(flushTime) }
}
