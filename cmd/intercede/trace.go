package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/trace"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func traceCommand() *cobra.Command {
	var daemon daemonFlags
	var filter trace.Filter
	var outcome string
	var asJSON bool
	c := &cobra.Command{
		Use:   "trace [ID | NAME]",
		Short: "Show intercepted calls as they happen",
		Long: `Trace asks the running daemon for each call as it ends, and prints it as strace(1) does: thread, call, result, the plugin
that decided with its reason, and the duration in seconds. A result of "? (continue)" means that the kernel had the call.

With an ID, or how that begins, or a name, it shows the calls of that container alone. It ends with SIGINT, or with the
daemon. No call waits for it: what it does not take in time is dropped, and the number of those calls is printed.`,
		Example: "  intercede trace web --plugin mknod\n  intercede trace --outcome errno --json | jq -r '[.container, .reason] | @tsv'",
		Args:    cobra.MaximumNArgs(1),
		PreRunE: cli.RequireRoot,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				filter.Container = args[0]
			}
			if filter.Outcome = audit.Kind(outcome); outcome != "" && !filter.Outcome.IsKnown() {
				return cli.Usagef("--outcome %q: want one of return, errno, continue, addfd, gone, again", outcome)
			}
			path, err := daemon.socket()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(c.Context(), unix.SIGTERM, unix.SIGINT)
			defer stop()
			return follow(ctx, c, path, filter, asJSON)
		},
	}
	daemon.register(c)
	f := c.Flags()
	f.StringVar(&filter.Syscall, "syscall", "", "show calls of the system call `NAME` alone")
	f.StringVar(&filter.Plugin, "plugin", "", "show calls that the plugin `NAME` decided or handed back")
	f.StringVar(&outcome, "outcome", "", "show calls that ended so: `KIND` return, errno, continue, addfd, gone or again")
	f.BoolVar(&asJSON, "json", false, "print a JSON object for each call (docs/audit.md), with its line")
	return c
}

// follow prints calls until the context ends or the reader of the output is gone.
func follow(ctx context.Context, c *cobra.Command, path string, filter trace.Filter, asJSON bool) error {
	surviveBrokenPipes()
	begin := func(containers int) {
		if containers == 0 {
			fmt.Fprintln(c.ErrOrStderr(), "no such container is attached yet: waiting for one (`intercede status` lists those that are)")
		}
	}
	err := control.Trace(ctx, path, filter, begin, func(call control.TracedCall) error {
		return printTraced(c.OutOrStdout(), c.ErrOrStderr(), call, filter.Container == "", asJSON)
	})
	if errors.Is(err, unix.EPIPE) || ctx.Err() != nil {
		return nil
	}
	return err
}

func printTraced(out, errors io.Writer, call control.TracedCall, named, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(call)
	}
	if call.Dropped > 0 {
		fmt.Fprintf(errors, "%d calls are not shown: they came faster than they were printed\n", call.Dropped)
		return nil
	}
	prefix := call.Time.Local().Format("15:04:05.000000 ")
	if named {
		prefix += call.Container + " "
	}
	_, err := fmt.Fprintln(out, prefix+call.Line)
	return err
}
