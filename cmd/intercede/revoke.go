package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/control"
	"github.com/spf13/cobra"
)

func revokeCommand() *cobra.Command {
	var config cli.ConfigFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "revoke ID [PLUGIN]",
		Short: "Take a plugin, or all, from a running container",
		Long: `Revoke has the running daemon take a plugin, or all of them, from the container with this ID, or the one whose ID
begins so. It waits for the container's calls under way. From then on the plugin is not asked for the container: its calls
get what they get when the plugin fails (on_failure). That lasts until the container ends, also through restarts of the
daemon. One that is created anew gets what the config gives it: change that first.

What the plugin has done already is not undone. Revoke lists what the plugin keeps account of: mounts, covers of nodes,
programs; the audit has the calls.`,
		Example: "  intercede revoke 3f1c mount\n  intercede revoke web",
		Args:    cobra.RangeArgs(1, 2),
		PreRunE: cli.RequireRoot,
		RunE: func(c *cobra.Command, args []string) error {
			path, err := controlPath(config)
			if err != nil {
				return err
			}
			revoked, err := control.Revoke(c.Context(), path, args[0], append(args, "")[1])
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(revoked)
			}
			printRevoked(c.OutOrStdout(), revoked)
			return nil
		},
	}
	config.Register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return c
}

func printRevoked(out io.Writer, revoked []broker.Revoked) {
	for _, r := range revoked {
		fmt.Fprintf(out, "container %s: %s is not asked any more, its calls get %s\n", r.Container, r.Plugin, r.Verdict)
		printDone(out, r.Kept, r.Busy)
	}
}

// printDone prints what plugins have done for a container that lost them, and how many calls may still be done.
func printDone(out io.Writer, kept []string, busy int) {
	for _, entry := range kept {
		fmt.Fprintf(out, "  done before, and kept account of: %s\n", entry)
	}
	if busy > 0 {
		fmt.Fprintf(out, "  %d calls have missed their deadlines and may still be done: `intercede status` says when they are over\n", busy)
	}
}
