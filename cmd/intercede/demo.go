package main

import (
	"context"
	"os/signal"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/demo"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func demoCommand() *cobra.Command {
	var config cli.ConfigFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the same calls without and with interception, side by side",
		Long: `Demo starts two equal containers, one of them with interception, and makes the same system calls in both: some of
each plugin that is installed, with settings of its own. It shows what came of each, and what it cost. It exits 1 if something
did not come out as it should. Nothing on the host is changed; a loop device is in use meanwhile.`,
		Example: "  intercede demo\n  intercede demo --json | jq '.cases[] | {name, ok}'",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			report, err := runDemo(c.Context(), config)
			if err != nil {
				return err
			}
			write := report.WriteTable
			if asJSON {
				write = report.WriteJSON
			}
			if err := write(c.OutOrStdout()); err != nil {
				return err
			}
			return report.Check()
		},
	}
	config.Register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	c.AddCommand(callerCommand("caller", demo.ServeCaller))
	return c
}

func runDemo(ctx context.Context, config cli.ConfigFlags) (*demo.Report, error) {
	if err := requireRoot("demo"); err != nil {
		return nil, err
	}
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	read, err := config.Read()
	if err != nil {
		return nil, err
	}
	return demo.Run(ctx, read.Broker.PluginDir, []string{"demo", "caller"}, warnings())
}
