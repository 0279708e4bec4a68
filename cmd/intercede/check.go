package main

import (
	"encoding/json"
	"fmt"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/daemon"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/spf13/cobra"
)

func checkCommand() *cobra.Command {
	var flags cli.ConfigFlags
	var asJSON bool
	c := &cobra.Command{
		Use:     "check",
		Short:   "Print every problem in the config",
		Long:    "Check reads the config, runs each enabled plugin for its manifest, and prints every problem with its place.\nIf there is none, it starts each of these plugins for a moment and asks it about the settings of the config and of each\nrule, and executes the OCI runtime that the config names for its version. Warnings are about what is allowed and\ndangerous, or of no use. It exits 1 if there is any problem that is not a warning.",
		Example: "  intercede check --config /etc/intercede/config.toml",
		Args:    cobra.NoArgs,
		PreRunE: cli.RequireRoot,
		RunE: func(c *cobra.Command, _ []string) error {
			options, err := flags.Options()
			if err != nil {
				return err
			}
			setup, problems := daemon.Load(c.Context(), flags.Path, options)
			if len(problems) == 0 {
				problems = setup.Try(c.Context())
			}
			if asJSON {
				return checkJSON(c, problems)
			}
			faults, warnings := problems.Split()
			if failed := cli.PrintProblems(problems); len(faults) > 0 {
				return failed
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", flags.Path, describeWarnings(len(warnings)))
			return nil
		},
	}
	flags.Register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print the problems as a JSON array")
	return c
}

func describeWarnings(n int) string {
	switch n {
	case 0:
		return "no problems"
	case 1:
		return "no problems, 1 warning"
	default:
		return fmt.Sprintf("no problems, %d warnings", n)
	}
}

func checkJSON(c *cobra.Command, problems config.Problems) error {
	if problems == nil {
		problems = config.Problems{}
	}
	if err := json.NewEncoder(c.OutOrStdout()).Encode(problems); err != nil {
		return err
	}
	if faults, _ := problems.Split(); len(faults) > 0 {
		return &cli.ExitError{Status: cli.ExitFailure}
	}
	return nil
}
