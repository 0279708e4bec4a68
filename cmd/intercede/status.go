package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/launcher"
	"github.com/spf13/cobra"
)

func statusCommand() *cobra.Command {
	var config cli.ConfigFlags
	var asJSON bool
	c := &cobra.Command{
		Use:     "status",
		Short:   "Show the daemon's containers and plugins",
		Long:    "Status asks the running daemon, on the admin socket that the config names, for its plugins and containers.",
		Example: "  intercede status\n  intercede status --json | jq '.containers[] | select(.failures > 0)'",
		Args:    cobra.NoArgs,
		PreRunE: cli.RequireRoot,
		RunE: func(c *cobra.Command, _ []string) error {
			read, err := config.Read()
			if err != nil {
				return err
			}
			status, err := control.GetStatus(c.Context(), read.Broker.Control)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(status)
			}
			return printStatus(c.OutOrStdout(), status)
		},
	}
	config.Register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return c
}

func printStatus(out io.Writer, s *control.Status) error {
	fmt.Fprintf(out, "Daemon %d, up %s, listens on %s", s.PID, age(s.Started), s.Socket)
	if s.LXCSocket != "" {
		fmt.Fprintf(out, " and, for LXC, %s", s.LXCSocket)
	}
	fmt.Fprint(out, "\n\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PLUGIN\tVERSION\tSTATE\tPID\tRESTARTS\tLAST ERROR")
	for _, p := range s.Plugins {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\n", p.Name, p.Version, pluginState(&p), p.PID, p.Restarts, cmp.Or(p.Error, "-"))
	}
	fmt.Fprintln(w, "\nCONTAINER\tRUNTIME\tINIT PID\tATTACHED\tLISTENERS\tIN FLIGHT\tCALLS\tFAILURES\tPLUGINS")
	for _, c := range s.Containers {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%d\t%d\t%d\t%d\t%s\n", c.ID, c.Runtime, c.InitPID, age(c.Attached), c.Listeners,
			c.Inflight, c.Calls, c.Failures, strings.Join(c.Plugins, ","))
	}
	printRefused(w, s.Plugins)
	printUnserved(w, s)
	printQuarantines(w, s.Containers)
	printUnasked(w, s.Containers)
	printUnnotified(w, s.Containers)
	return w.Flush()
}

// printRefused prints the system calls that the sandbox has refused to plugins, if there are any.
func printRefused(w io.Writer, plugins []launcher.Status) {
	header := "\nPLUGIN\tREFUSED SYSTEM CALL\tTIMES\n"
	for _, p := range plugins {
		for _, name := range slices.Sorted(maps.Keys(p.Refused)) {
			fmt.Fprintf(w, "%s%s\t%s\t%d\n", header, p.Name, name, p.Refused[name])
			header = ""
		}
	}
}

// printUnserved prints the containers whose calls nobody intercepts, if there are any.
func printUnserved(w io.Writer, s *control.Status) {
	header := "\nNOT SERVED\tRUNTIME\tSTATE\tSINCE\tREASON\n"
	for _, c := range s.Lost {
		const reason = "its listener ended with an earlier daemon: its calls get ENOSYS until it is created anew"
		fmt.Fprintf(w, "%s%s\t%s\tLOST\t%s\t%s\n", header, c.ID, c.Runtime, age(c.Attached), reason)
		header = ""
	}
	for _, c := range s.Plain {
		fmt.Fprintf(w, "%s%s\toci\tPLAIN\t%s\t%s\n", header, c.ID, age(c.Created), c.Reason)
		header = ""
	}
}

// printQuarantines prints which containers' calls get the failure verdict, if there are any.
func printQuarantines(w io.Writer, containers []broker.ContainerStatus) {
	header := "\nQUARANTINED\tPLUGIN\tSINCE\tENDS\tREASON\n"
	for _, c := range containers {
		for _, q := range c.Quarantines {
			ends := "when that is over"
			if !q.Until.IsZero() {
				ends = "in " + left(q.Until).String()
			}
			fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\t%s\n", header, c.ID, cmp.Or(q.Plugin, "all"), age(q.Since), ends, q.Reason)
			header = ""
		}
	}
}

// printUnasked prints which plugins are not asked for a container that has them, if there are any.
func printUnasked(w io.Writer, containers []broker.ContainerStatus) {
	header := "\nNOT ASKED FOR\tPLUGIN\tREASON\n"
	for _, c := range containers {
		for _, u := range c.Unserved {
			fmt.Fprintf(w, "%s%s\t%s\t%s\n", header, c.ID, u.Plugin, u.Reason)
			header = ""
		}
	}
}

// printUnnotified prints which system calls the filters of containers may not notify, if there are any.
func printUnnotified(w io.Writer, containers []broker.ContainerStatus) {
	header := "\nMAY NOT BE NOTIFIED\tSYSTEM CALLS, UNTIL IT IS CREATED ANEW\n"
	for _, c := range containers {
		if len(c.Unnotified) > 0 {
			fmt.Fprintf(w, "%s%s\t%s\n", header, c.ID, strings.Join(c.Unnotified, ", "))
			header = ""
		}
	}
}

// left is the time until then.
func left(until time.Time) time.Duration { return max(time.Until(until), 0).Round(time.Second) }

// pluginState is a plugin's state, with the time that a pause has left.
func pluginState(p *launcher.Status) string {
	if p.Isolated > 0 {
		return fmt.Sprintf("%s, and %d for one container each", p.State, p.Isolated)
	}
	if p.NextStart.IsZero() {
		return p.State
	}
	return fmt.Sprintf("%s for %s", p.State, left(p.NextStart))
}

func age(since time.Time) time.Duration { return time.Since(since).Round(time.Second) }
