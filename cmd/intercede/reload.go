package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/control"
	"github.com/spf13/cobra"
)

func reloadCommand() *cobra.Command {
	var config cli.ConfigFlags
	var running, asJSON bool
	c := &cobra.Command{
		Use:   "reload",
		Short: "Have the daemon read its config again",
		Long: `Reload asks the running daemon, on the admin socket that the config names, to read its config again. Containers that come
from then on get it; those that run keep what they have, unless --running is given. log_level and log_format change at once. It waits, and prints
what is different from before. Problems are printed, the former config stays then, and the status is 1. SIGHUP has the
daemon do the same, and say it in its log.

With --running the containers that run get the new policy too: what the config gives them now, as if they had begun with it.
Their calls wait meanwhile, and those under way end by the policy that they began with; when the command returns, none is
handled by the former one. For each container whose plugins change it prints which, and what they have done already, which
is not undone. What intercede revoke has taken from a container stays taken. A container whose plugins do not take the new
settings, or whose calls do not end, keeps all of its former policy: the command says so, and the status is 1.

The filter of a running container cannot be changed: a system call that it does not notify stays with the kernel until the
container is created anew, whatever plugin is added. reload and status say which these may be.`,
		Example: "  intercede reload\n  intercede check && intercede reload --running",
		Args:    cobra.NoArgs,
		PreRunE: cli.RequireRoot,
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := controlPath(config)
			if err != nil {
				return err
			}
			done, err := control.Reload(c.Context(), path, running)
			if err != nil {
				return err
			}
			if asJSON {
				err := json.NewEncoder(c.OutOrStdout()).Encode(done)
				return cmp.Or(err, problemsOf(done))
			}
			if len(done.Problems) > 0 {
				failed := cli.PrintProblems(done.Problems)
				fmt.Fprintln(c.ErrOrStderr(), "not reloaded: the former config stays in force")
				return failed
			}
			fmt.Fprintln(c.OutOrStdout(), "reloaded: containers that come from now on get the config")
			printChanges(c.OutOrStdout(), done.Changes)
			if running {
				printApplied(c.OutOrStdout(), done.Containers)
			}
			return problemsOf(done)
		},
	}
	config.Register(c)
	c.Flags().BoolVar(&running, "running", false, "give the containers that run the new policy too")
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return c
}

// problemsOf returns an error if the config is not in force, or not everywhere.
func problemsOf(done *control.Reloaded) error {
	if len(done.Problems) > 0 {
		return errors.New("not reloaded: the former config stays in force")
	}
	failed := 0
	for _, applied := range done.Containers {
		if applied.Error != "" {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d running containers keep their former policy: `intercede revoke` takes a plugin from one all the same",
			failed, len(done.Containers))
	}
	return nil
}

func printApplied(out io.Writer, containers []broker.Applied) {
	same := 0
	for _, a := range containers {
		switch what := appliedWhat(a); {
		case a.Error != "":
			fmt.Fprintf(out, "container %s keeps its former policy: %s\n", a.Container, a.Error)
		case what == "":
			same++
		default:
			fmt.Fprintf(out, "container %s: %s\n", a.Container, what)
		}
		printDetails(out, a)
	}
	if same > 0 {
		fmt.Fprintf(out, "running containers that have the same plugins and settings as before: %d\n", same)
	}
}

// appliedWhat says which plugins are different from before.
func appliedWhat(a broker.Applied) string {
	var parts []string
	for _, part := range []struct {
		what    string
		plugins []string
	}{{"added", a.Added}, {"changed", a.Changed}, {"taken away", a.Taken}} {
		if len(part.plugins) > 0 {
			parts = append(parts, part.what+" "+strings.Join(part.plugins, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

func printDetails(out io.Writer, a broker.Applied) {
	if len(a.Unnotified) > 0 {
		fmt.Fprintf(out, "  its filter may not notify, so that the kernel has them until it is created anew: %s\n", strings.Join(a.Unnotified, ", "))
	}
	if len(a.Revoked) > 0 {
		fmt.Fprintf(out, "  taken by `intercede revoke`, which stays so: %s\n", strings.Join(a.Revoked, ", "))
	}
	printDone(out, a.Kept, a.Busy)
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
