package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/cmd/internal/screen"
	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/top"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// minInterval keeps somebody who watches from asking the daemon all the time.
const minInterval = 100 * time.Millisecond

// topFlags are the flags of top.
type topFlags struct {
	daemon   daemonFlags
	interval time.Duration
	count    int
	table    top.Table
	sort     string
	asJSON   bool
}

func topCommand() *cobra.Command {
	var flags topFlags
	c := &cobra.Command{
		Use:   "top",
		Short: "Show what containers and plugins do, as it changes",
		Long: `Top asks the running daemon once in an interval, and shows for each container, or each plugin, how many calls ended in a
second and how many of them failed, how long they took (p50 and p99), how many are being handled, and which containers
are throttled or quarantined.

On a terminal the table fills the screen: s sorts by the next column, p shows plugins and c containers, ? lists all
keys, q quits. Otherwise, or with --json or --count, it prints a table, or a line of JSON, for each interval.`,
		Example: "  intercede top\n  intercede top --plugins --interval 5s --count 1\n" +
			"  intercede top --json | jq '.containers[] | select(.throttled > 0) | .id'",
		Args:    cobra.NoArgs,
		PreRunE: flags.daemon.requireRoot,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := flags.check(); err != nil {
				return err
			}
			path, err := flags.daemon.socket()
			if err != nil {
				return err
			}
			ask := func(ctx context.Context) (*control.Status, error) { return control.GetStatus(ctx, path) }
			ctx, stop := signal.NotifyContext(c.Context(), unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
			defer stop()
			if !flags.asJSON && flags.count == 0 && cli.IsScreen(os.Stdout) {
				return screen.Run(ctx, ask, flags.interval, flags.table)
			}
			return flags.print(ctx, c.OutOrStdout(), ask)
		},
	}
	flags.daemon.register(c)
	f := c.Flags()
	f.DurationVar(&flags.interval, "interval", time.Second, "`TIME` between two looks")
	f.IntVar(&flags.count, "count", 0, "end after `N` tables")
	f.BoolVar(&flags.table.Plugins, "plugins", false, "show plugins, and not containers")
	f.StringVar(&flags.sort, "sort", "calls", "sort by `COLUMN`: its title, in small letters, without \"/s\"")
	f.BoolVar(&flags.asJSON, "json", false, "print a JSON object for each interval (docs/status.md)")
	return c
}

func (f *topFlags) check() error {
	switch {
	case f.interval < minInterval:
		return cli.Usagef("--interval %v: want %v at least", f.interval, minInterval)
	case f.count < 0:
		return cli.Usagef("--count %d: want 1 at least", f.count)
	}
	if err := f.table.SortByTitle(f.sort); err != nil {
		return cli.Usagef("--sort %w", err)
	}
	return nil
}

// print prints a table, or a JSON object, for each interval, until the context ends or the reader of the output is
// gone.
func (f *topFlags) print(ctx context.Context, out io.Writer, ask screen.Ask) error {
	surviveBrokenPipes()
	before, err := ask(ctx)
	if err != nil {
		return unlessEnded(ctx, err)
	}
	for printed := 0; f.count == 0 || printed < f.count; printed++ {
		select {
		case <-time.After(f.interval):
		case <-ctx.Done():
			return nil
		}
		now, err := ask(ctx)
		if err != nil {
			return unlessEnded(ctx, err)
		}
		sample := top.Between(before, now)
		before = now
		if err := f.printSample(out, sample); err != nil {
			return unlessEnded(ctx, err)
		}
	}
	return nil
}

func (f *topFlags) printSample(out io.Writer, sample *top.Sample) error {
	if f.asJSON {
		return json.NewEncoder(out).Encode(sample)
	}
	_, err := fmt.Fprintf(out, "%s, in %s\n%s\n", sample.At.Local().Format(time.TimeOnly), sample.Period.Round(time.Millisecond),
		f.table.Text(sample))
	return err
}

// unlessEnded is the error, unless the user or the reader of the output has had enough.
func unlessEnded(ctx context.Context, err error) error {
	if errors.Is(err, unix.EPIPE) || ctx.Err() != nil {
		return nil
	}
	return err
}
