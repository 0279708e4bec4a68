package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/intercede/intercede/core/bench"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func benchCommand() *cobra.Command {
	var config configFlags
	var asJSON bool
	options := bench.Options{Caller: []string{"bench", "caller"}}
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure what a notification costs here",
		Long: `Bench starts containers whose program makes one system call over and over, and measures how long each call takes:
answered by the shortest supervisor there can be, by the broker with a plugin that returns at once, and by plugins that
the config enables. Nothing on the host is changed.`,
		Example: "  intercede bench\n  intercede bench --calls 20000 --json | jq '.rows[] | {name, p50}'",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if options.Calls < 1 {
				return &exitError{exitUsage, fmt.Errorf("--calls %d: want 1 or more", options.Calls)}
			}
			report, err := runBench(c.Context(), config, options)
			if err != nil {
				return err
			}
			if asJSON {
				return report.WriteJSON(c.OutOrStdout())
			}
			return report.WriteTable(c.OutOrStdout())
		},
	}
	config.register(c)
	c.Flags().IntVar(&options.Calls, "calls", 5000, "`N` calls of each kind")
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	c.AddCommand(callerCommand(bench.ServeCaller))
	return c
}

func runBench(ctx context.Context, config configFlags, options bench.Options) (*bench.Report, error) {
	if err := requireRoot("bench"); err != nil {
		return nil, err
	}
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	setup, err := config.load(ctx)
	if err != nil {
		return nil, err
	}
	return bench.Run(ctx, setup, options, warnings())
}

// callerCommand is the program in the containers that bench and demo start.
func callerCommand(serve func(in io.Reader, out io.Writer) error) *cobra.Command {
	return &cobra.Command{
		Use:    "caller",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return serve(os.Stdin, os.Stdout) },
	}
}

// requireRoot says what a command needs before anything fails for it.
func requireRoot(command string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	return fmt.Errorf("intercede %s must be started as root, because it starts containers and plugins: use sudo", command)
}

// warnings is the logger of commands whose output is a table.
func warnings() zerolog.Logger {
	return zerolog.New(os.Stderr).Level(zerolog.WarnLevel).With().Timestamp().Logger()
}
