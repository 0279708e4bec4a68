package main

import (
	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/control"
	"github.com/spf13/cobra"
)

func metricsCommand() *cobra.Command {
	var config cli.ConfigFlags
	c := &cobra.Command{
		Use:   "metrics",
		Short: "Print the daemon's metrics as Prometheus reads them",
		Long: `Metrics asks the running daemon, on the admin socket that the config names, for its metrics, and prints them in the text
format of Prometheus. The daemon has metrics if [broker] metrics of its config has an address, which serves the same.`,
		Example: "  intercede metrics | grep ^intercede_calls_total",
		Args:    cobra.NoArgs,
		PreRunE: cli.RequireRoot,
		RunE: func(c *cobra.Command, _ []string) error {
			read, err := config.Read()
			if err != nil {
				return err
			}
			return control.CopyMetrics(c.Context(), read.Broker.Control, c.OutOrStdout())
		},
	}
	config.Register(c)
	return c
}
