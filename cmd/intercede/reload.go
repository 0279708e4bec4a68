package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/control"
	"github.com/spf13/cobra"
)

func reloadCommand() *cobra.Command {
	var config cli.ConfigFlags
	c := &cobra.Command{
		Use:   "reload",
		Short: "Have the daemon read its config again",
		Long: `Reload asks the running daemon, on the admin socket that the config names, to read its config again. Containers that come
from then on get it; those that run keep what they have. log_level and log_format change at once. It waits, and prints
what is different from before. Problems are printed, the former config stays then, and the status is 1. SIGHUP has the
daemon do the same, and say it in its log.`,
		Example: "  intercede reload\n  intercede check && intercede reload",
		Args:    cobra.NoArgs,
		PreRunE: cli.RequireRoot,
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := controlPath(config)
			if err != nil {
				return err
			}
			done, err := control.Reload(c.Context(), path)
			if err != nil {
				return err
			}
			if len(done.Problems) > 0 {
				failed := cli.PrintProblems(done.Problems)
				fmt.Fprintln(c.ErrOrStderr(), "not reloaded: the former config stays in force")
				return failed
			}
			fmt.Fprintln(c.OutOrStdout(), "reloaded: containers that come from now on get the config")
			printChanges(c.OutOrStdout(), done.Changes)
			return nil
		},
	}
	config.Register(c)
	return c
}

func printChanges(out io.Writer, changes []string) {
	if len(changes) == 0 {
		fmt.Fprintln(out, "nothing is different from before")
	}
	for _, line := range changes {
		fmt.Fprintln(out, "  "+line)
	}
}

func controlPath(config cli.ConfigFlags) (string, error) {
	read, err := config.Read()
	if err != nil {
		return "", err
	}
	return read.Broker.Control, nil
}

func upgradeCommand() *cobra.Command {
	var config cli.ConfigFlags
	c := &cobra.Command{
		Use:   "upgrade",
		Short: "Replace the daemon by the program that is at its path now",
		Long: `Upgrade asks the running daemon, on the admin socket that the config names, to end for the program that is at its path now.
The daemon has that program check the config first, and stays if there are problems. Its manager, systemd or intercede
keep, starts the new one, which goes on with all containers. Their calls wait meanwhile.`,
		Example: "  intercede upgrade\n  apt-get install --only-upgrade intercede && intercede upgrade",
		Args:    cobra.NoArgs,
		PreRunE: cli.RequireRoot,
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := controlPath(config)
			if err != nil {
				return err
			}
			return upgrade(c, path)
		},
	}
	config.Register(c)
	return c
}

// upgradePatience is how long the new daemon may take to answer: it starts plugins.
const upgradePatience = 2 * time.Minute

func upgrade(c *cobra.Command, path string) error {
	began := time.Now()
	started, err := control.StartUpgrade(c.Context(), path)
	if err != nil {
		return fmt.Errorf("not upgraded: %w", err)
	}
	fmt.Fprintf(c.OutOrStdout(), "daemon %d ends, and %s takes its place\n", started.PID, started.Program)
	ctx, cancel := context.WithTimeout(c.Context(), upgradePatience)
	defer cancel()
	for {
		status, err := control.GetStatus(ctx, path)
		if err == nil && status.PID != started.PID {
			fmt.Fprintf(c.OutOrStdout(), "daemon %d serves %d containers, after %s\n",
				status.PID, len(status.Containers), time.Since(began).Round(time.Millisecond))
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("daemon %d has ended, and the next one does not answer; its log says why: %w", started.PID, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
