package main

import (
	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/doctor"
	"github.com/spf13/cobra"
)

func doctorCommand() *cobra.Command {
	var config cli.ConfigFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this kernel and host can do, and what is missing",
		Long: `Doctor tries what interception needs. A trial that would change something runs in a process of its own, and nothing is left
afterwards. Doctor also checks the daemon, the config, the plugins, the engines and the boot order. Each finding has its
remedy below it. The exit status is 1 if nothing can work without what is missing.`,
		Example: "  intercede doctor",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			checks := doctor.Run(c.Context(), config.Path)
			write := doctor.WriteTable
			if asJSON {
				write = doctor.WriteJSON
			}
			if err := write(c.OutOrStdout(), checks); err != nil {
				return err
			}
			if !doctor.Usable(checks) {
				return &cli.ExitError{Status: cli.ExitFailure}
			}
			return nil
		},
	}
	config.Register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print the checks as a JSON array")
	return c
}
