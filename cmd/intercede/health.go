package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/control"
	"github.com/spf13/cobra"
)

func healthCommand() *cobra.Command {
	var daemon daemonFlags
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "health",
		Short: "Check in one line whether the daemon works, for probes",
		Long: `Health asks the running daemon, on its admin socket, whether it takes calls and all plugins run, and prints one line. A
plugin that has died may take a second to run again. A container that is not served, or is quarantined, does not count.

The exit status is 0 if the daemon is healthy. It is 1 if the daemon is not healthy, does not run or does not answer in
time, and if something else answers: the line says which, and what to do. It is 2 if the command line is wrong.`,
		Example: "  intercede health\n  intercede health --control /run/intercede/control.sock --timeout 2s",
		Args:    cobra.NoArgs,
		PreRunE: daemon.requireRoot,
		RunE: func(c *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return cli.Usagef("--timeout %v: want more than 0s", timeout)
			}
			path, err := daemon.socket()
			if err != nil {
				return err
			}
			health, err := control.GetHealth(c.Context(), path, timeout)
			if err != nil {
				return err
			}
			if !health.Healthy {
				return fmt.Errorf("daemon %d is not healthy: %s", health.PID, printable(strings.Join(health.Problems, "; ")))
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "daemon %d is healthy\n", health.PID)
			return err
		},
	}
	daemon.register(c)
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "`TIME` that the daemon has to answer")
	return c
}
