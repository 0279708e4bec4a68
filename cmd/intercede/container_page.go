package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/control"
	"github.com/spf13/cobra"
)

// showContainer prints all that the daemon knows of the containers that who means.
func showContainer(c *cobra.Command, path, who string, asJSON bool) error {
	found, err := control.GetContainers(c.Context(), path, who)
	if err != nil {
		return err
	}
	if len(found.Attached)+len(found.Lost)+len(found.Plain) == 0 {
		return fmt.Errorf("the daemon knows no container %q: `intercede status` lists them", who)
	}
	if asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(found)
	}
	return printContainers(c.OutOrStdout(), found)
}

func printContainers(out io.Writer, found *control.Containers) error {
	for i := range found.Attached {
		if i > 0 {
			fmt.Fprintln(out)
		}
		if err := printPage(out, &found.Attached[i]); err != nil {
			return err
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	printUnserved(w, &control.Status{Lost: found.Lost, Plain: found.Plain})
	return w.Flush()
}

// printPage prints the page of one container.
func printPage(out io.Writer, c *broker.ContainerFacts) error {
	printContainer(out, c)
	if c.Privileged {
		fmt.Fprintln(out, "It has no user namespace of its own: only plugins that serve any container are asked.")
	}
	fmt.Fprintf(out, "Listeners: %d; calls being handled: %d of %d; throttled: %d\n", c.Listeners, c.Inflight, c.MaxInflight, c.Throttled)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	printContainerCalls(w, c)
	printQuarantines(w, []broker.ContainerStatus{c.ContainerStatus})
	printUnasked(w, []broker.ContainerStatus{c.ContainerStatus})
	printKept(w, c.Served)
	if c.Policy != nil {
		printPolicyTables(w, c.Policy)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	printRefusals(out, c.Refusals)
	return nil
}

// printContainerCalls prints how calls have ended, by plugin. The durations are those of all of the container's calls,
// from the receipt to the answer.
func printContainerCalls(w io.Writer, c *broker.ContainerFacts) {
	fmt.Fprintln(w, "\nPLUGIN\tVERSION\tSTATE\tSYSCALLS\t"+outcomes+"\tP50\tP99")
	for i := range c.Served {
		p := &c.Served[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t-\t-\n", p.Name, p.Version, pluginState(&p.Status), cmp.Or(strings.Join(p.Syscalls, ","), "-"),
			outcomeColumns(p.Outcomes))
	}
	fmt.Fprintf(w, "all\t\t\t\t%s\t%s\n", outcomeColumns(c.Outcomes), quantiles(c.Durations))
}

// printKept prints what plugins keep for the container, if they keep anything.
func printKept(w io.Writer, plugins []broker.PluginFacts) {
	header := "\nPLUGIN\tKEEPS\n"
	for _, p := range plugins {
		for _, line := range p.Kept {
			fmt.Fprintf(w, "%s%s\t%s\n", header, p.Name, printable(line))
			header = ""
		}
	}
}
