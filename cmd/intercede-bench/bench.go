package main

import (
	"io"
	"os"
	"os/signal"
	"strconv"

	"github.com/intercede/intercede/cmd/intercede-bench/bench"
	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func benchCommand() *cobra.Command {
	var config cli.ConfigFlags
	var asJSON, asBenchmarks, execute bool
	options := bench.Options{
		Caller: []string{"caller"}, Native: []string{"native"}, Generator: []string{"listeners"}, Watcher: []string{"watch"},
	}
	c := &cobra.Command{
		Use:   "intercede-bench",
		Short: "Measure what a notification costs here",
		Long: `Start containers whose program makes one system call over and over, and measure how long each call takes: answered by the
shortest supervisor there can be, by the broker with a plugin that returns at once, over a lane and over gRPC, and by the
plugins that the config enables. Then measure calls beside slow ones, the calls that are answered in a second with more and
more callers, and what many attached listeners cost. Nothing on the host is changed.`,
		Example: `  intercede-bench
  intercede-bench --calls 20000 --listeners 0 --json | jq '.rows[] | {name, p50}'
  intercede-bench --benchmarks > old; intercede-bench --benchmarks > new; benchstat old new`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if options.Calls < 1 {
				return cli.Usagef("--calls %d: want 1 or more", options.Calls)
			}
			if options.Listeners < 0 || options.Listeners > maxListeners {
				return cli.Usagef("--listeners %d: want 0 to %d", options.Listeners, maxListeners)
			}
			if asJSON && asBenchmarks {
				return cli.Usagef("--json and --benchmarks are two formats: want one")
			}
			if execute {
				options.Exec = []string{"perform"}
			}
			options.RowsOnly = asBenchmarks
			report, err := runBench(c, config, options)
			if err != nil {
				return err
			}
			switch {
			case asJSON:
				return report.WriteJSON(c.OutOrStdout())
			case asBenchmarks:
				return report.WriteBenchmarks(c.OutOrStdout())
			default:
				return report.WriteTable(c.OutOrStdout())
			}
		},
	}
	config.Register(c)
	c.Flags().IntVar(&options.Calls, "calls", 5000, "`N` calls of each kind")
	c.Flags().IntVar(&options.Listeners, "listeners", 1000, "`N` listeners attached at once; 0 leaves that out")
	c.Flags().BoolVar(&execute, "exec", false, "measure calls by a program executed for each, too")
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	c.Flags().BoolVar(&asBenchmarks, "benchmarks", false, "measure the calls alone, and print what benchstat compares")
	c.AddCommand(callerCommand("caller", bench.ServeCaller), callerCommand("native", bench.ServeNative),
		listenersCommand(), watchCommand(), performCommand())
	return c
}

// maxListeners is less than a process may have threads in Go.
const maxListeners = 8000

// listenersCommand is the program whose threads have the listeners.
func listenersCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "listeners N",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			n, err := strconv.ParseUint(args[0], 10, 16)
			if err != nil {
				return err
			}
			return bench.ServeListeners(int(n), os.Stdin, os.Stdout)
		},
	}
}

// watchCommand is the program that watches broker and plugins.
func watchCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "watch PID...",
		Hidden: true,
		Args:   cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var pids []int
			for _, arg := range args {
				pid, err := strconv.ParseUint(arg, 10, 31)
				if err != nil {
					return err
				}
				pids = append(pids, int(pid))
			}
			return bench.Watch(pids, c.OutOrStdout())
		},
	}
}

// performCommand is the program that is executed for each call with --exec.
func performCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "perform TID NR ARG...",
		Hidden: true,
		Args:   cobra.ExactArgs(8),
		RunE: func(_ *cobra.Command, args []string) error {
			var numbers [8]uint64
			for i, arg := range args {
				var err error
				if numbers[i], err = strconv.ParseUint(arg, 10, 64); err != nil {
					return err
				}
			}
			return bench.Perform(int(numbers[0]), int(numbers[1]), [6]uint64(numbers[2:]))
		},
	}
}

func runBench(c *cobra.Command, config cli.ConfigFlags, options bench.Options) (*bench.Report, error) {
	if err := requireRoot(c); err != nil {
		return nil, err
	}
	ctx, stop := signal.NotifyContext(c.Context(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	setup, err := config.Load(ctx)
	if err != nil {
		return nil, err
	}
	return bench.Run(ctx, setup, options, warnings())
}

// callerCommand is the program in the containers that are measured or shown.
func callerCommand(name string, serve func(args []string, in io.Reader, out io.Writer) error) *cobra.Command {
	return &cobra.Command{
		Use:    name,
		Hidden: true,
		RunE:   func(_ *cobra.Command, args []string) error { return serve(args, os.Stdin, os.Stdout) },
	}
}
