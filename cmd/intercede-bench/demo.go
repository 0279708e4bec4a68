package main

import (
	"os/signal"

	"github.com/intercede/intercede/cmd/intercede-bench/demo"
	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func demoCommand() *cobra.Command {
	var config cli.ConfigFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the same calls without and with interception, side by side",
		Long: `Make the same system calls in two equal containers, one of them with interception: some of each plugin that is installed,
with settings of the demo's own. Show what came of each, and what it cost. The exit status is 1 if something did not come out
as it should. Nothing on the host is changed; a loop device is in use meanwhile.`,
		Example: "  intercede-bench demo\n  intercede-bench demo --json | jq '.cases[] | {name, ok}'",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			report, err := runDemo(c, config)
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

func runDemo(c *cobra.Command, config cli.ConfigFlags) (*demo.Report, error) {
	if err := requireRoot(c); err != nil {
		return nil, err
	}
	ctx, stop := signal.NotifyContext(c.Context(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	read, err := config.Read()
	if err != nil {
		return nil, err
	}
	return demo.Run(ctx, read.Broker.PluginDir, []string{"demo", "caller"}, warnings())
}
