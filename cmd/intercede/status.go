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
	"github.com/intercede/intercede/core/figures"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/top"
	"github.com/intercede/intercede/internal/version"
	"github.com/spf13/cobra"
)

func statusCommand() *cobra.Command {
	var daemon daemonFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "status [ID | NAME]",
		Short: "Show the daemon's containers and plugins, or one container",
		Long: `Status asks the running daemon, on its admin socket, for its plugins and containers. It needs no config: without one, or
with one that cannot be read, it asks on the default socket.

With an ID, or how that begins, or a name, it shows all that is known of that container: its policy and where that is
from, its calls by plugin and outcome, its last refusals, quarantines, limits, and what plugins keep for it.

The exit status is 0 if the daemon is healthy: it takes calls, and all plugins run. It is 1 if not, after the same
output, and 1 without a daemon, or without this container. It is 2 if the command line is wrong. A container that is
not served, or is quarantined, does not change it.`,
		Example: "  intercede status\n  intercede status web\n" +
			"  intercede status --json | jq '.containers[] | select(.failures > 0)'",
		Args:    cobra.MaximumNArgs(1),
		PreRunE: daemon.requireRoot,
		RunE: func(c *cobra.Command, args []string) error {
			path, err := daemon.socket()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return showContainer(c, path, args[0], asJSON)
			}
			return showStatus(c, path, asJSON)
		},
	}
	daemon.register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object (docs/status.md)")
	return c
}

func showStatus(c *cobra.Command, path string, asJSON bool) error {
	status, err := control.GetStatus(c.Context(), path)
	if err != nil {
		return err
	}
	if asJSON {
		err = json.NewEncoder(c.OutOrStdout()).Encode(status)
	} else {
		err = printStatus(c.OutOrStdout(), status)
	}
	if err == nil && !status.Healthy {
		return &cli.ExitError{Status: cli.ExitFailure}
	}
	return err
}

func printStatus(out io.Writer, s *control.Status) error {
	printDaemon(out, s)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PLUGIN\tVERSION\tSTATE\tPID\tRESTARTS\tLAST ERROR")
	for _, p := range s.Plugins {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\n", p.Name, p.Version, pluginState(&p), p.PID, p.Restarts, cmp.Or(printable(p.Error), "-"))
	}
	printPluginCalls(w, s.PluginCalls)
	fmt.Fprintln(w, "\nCONTAINER\tNAME\tRUNTIME\tINIT PID\tATTACHED\tPOLICY\tLISTENERS\tIN FLIGHT\tCALLS\tFAILURES\tPLUGINS")
	for _, c := range s.Containers {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%d\t%d\t%d\t%d\t%s\n", printable(c.ID), cmp.Or(printable(c.Name), "-"), c.Runtime, c.InitPID,
			age(c.Attached), generation(c.Generation), c.Listeners, c.Inflight, c.Calls, c.Failures, strings.Join(c.Plugins, ","))
	}
	printRefused(w, s.Plugins)
	printUnserved(w, s)
	printQuarantines(w, s.Containers)
	printUnasked(w, s.Containers)
	printUnnotified(w, s.Containers)
	return w.Flush()
}

// printDaemon prints what is known of the daemon itself.
func printDaemon(out io.Writer, s *control.Status) {
	fmt.Fprintf(out, "Daemon %d, version %s, up %s, listens on %s", s.PID, cmp.Or(s.Version, "unknown"), age(s.Started), s.Socket)
	if s.LXCSocket != "" {
		fmt.Fprintf(out, " and, for LXC, %s", s.LXCSocket)
	}
	fmt.Fprintln(out)
	fmt.Fprintf(out, "Config %s, sha256 %.12s, policy generation %d\n", s.Config.Path, s.Config.SHA256, s.Config.Generation)
	if r := s.Reload; r != nil {
		result := "ok"
		if !r.OK {
			result = "failed, the former config stays: " + printable(r.Error)
		}
		fmt.Fprintf(out, "Last reload %s ago: %s\n", age(r.At), result)
	}
	if own := version.Number(); s.Version != own {
		fmt.Fprintf(out, "This program has version %s: `intercede upgrade` replaces the daemon\n", own)
	}
	fmt.Fprintln(out, map[bool]string{true: "Healthy", false: "NOT HEALTHY"}[s.Healthy])
	for _, p := range s.Problems {
		fmt.Fprintf(out, "  %s\n", printable(p))
	}
	fmt.Fprintln(out)
}

// outcomes are the columns of figures.Calls.
const outcomes = "CALLS\tRETURN\tERRNO\tCONTINUE\tADDFD\tGONE\tAGAIN\tNEXT\tFAILED"

func outcomeColumns(c figures.Calls) string {
	return fmt.Sprintf("%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d", c.All(), c.Return, c.Errno, c.Continue, c.AddFD, c.Gone, c.Again, c.Next, c.Failed)
}

// printPluginCalls prints how calls of all containers have ended, if there were any.
func printPluginCalls(w io.Writer, plugins []broker.PluginCalls) {
	header := "\nPLUGIN\t" + outcomes + "\tP50\tP99\n"
	for _, p := range plugins {
		if p.Outcomes.All() > 0 {
			fmt.Fprintf(w, "%s%s\t%s\t%s\n", header, p.Plugin, outcomeColumns(p.Outcomes), quantiles(p.Durations))
			header = ""
		}
	}
}

func quantiles(d figures.Durations) string {
	return fmt.Sprintf("%s\t%s", top.ShortDuration(d.Quantile(0.5)), top.ShortDuration(d.Quantile(0.99)))
}

// generation is the policy that a container has.
func generation(number uint64) string {
	if number == 0 {
		return "earlier"
	}
	return fmt.Sprint(number)
}

// printRefused prints the system calls that the sandbox has refused to plugins, if there are any.
func printRefused(w io.Writer, plugins []launcher.Status) {
	header := "\nPLUGIN\tREFUSED SYSTEM CALL\tTIMES\n"
	for _, p := range plugins {
		for _, name := range slices.Sorted(maps.Keys(p.Refused)) {
			fmt.Fprintf(w, "%s%s\t%s\t%d\n", header, p.Name, printable(name), p.Refused[name])
			header = ""
		}
	}
}

// printUnserved prints the containers whose calls nobody intercepts, if there are any.
func printUnserved(w io.Writer, s *control.Status) {
	header := "\nNOT SERVED\tRUNTIME\tSTATE\tSINCE\tREASON\n"
	for _, c := range s.Lost {
		const reason = "its listener ended with an earlier daemon: its calls get ENOSYS until it is created anew"
		fmt.Fprintf(w, "%s%s\t%s\tLOST\t%s\t%s\n", header, printable(c.ID), c.Runtime, age(c.Attached), reason)
		header = ""
	}
	for _, c := range s.Plain {
		fmt.Fprintf(w, "%s%s\toci\tPLAIN\t%s\t%s\n", header, printable(c.ID), age(c.Created), printable(c.Reason))
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
			fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\t%s\n", header, printable(c.ID), cmp.Or(q.Plugin, "all"), age(q.Since), ends, printable(q.Reason))
			header = ""
		}
	}
}

// printUnasked prints which plugins are not asked for a container that has them, if there are any.
func printUnasked(w io.Writer, containers []broker.ContainerStatus) {
	header := "\nNOT ASKED FOR\tPLUGIN\tREASON\n"
	for _, c := range containers {
		for _, u := range c.Unserved {
			fmt.Fprintf(w, "%s%s\t%s\t%s\n", header, printable(c.ID), u.Plugin, printable(u.Reason))
			header = ""
		}
	}
}

// printUnnotified prints which system calls the filters of containers may not notify, if there are any.
func printUnnotified(w io.Writer, containers []broker.ContainerStatus) {
	header := "\nMAY NOT BE NOTIFIED\tSYSTEM CALLS, UNTIL IT IS CREATED ANEW\n"
	for _, c := range containers {
		if len(c.Unnotified) > 0 {
			fmt.Fprintf(w, "%s%s\t%s\n", header, printable(c.ID), strings.Join(c.Unnotified, ", "))
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
