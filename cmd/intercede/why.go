package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/why"
	"github.com/spf13/cobra"
)

func whyCommand() *cobra.Command {
	var daemon daemonFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "why {PID | ID | NAME}",
		Short: "Explain how calls of a process or a container are served, and what to do",
		Long: `Why asks the running daemon about a process, by its PID on the host, or about a container, by its ID, how that begins, or
its name. It looks at the user namespace, the seccomp filter, the listener, the rules of the config that apply, the
plugins, the capabilities that they ask for, and quarantines; and it lists the last calls that were refused or left to
the kernel, with the reason and what to do for each.

The exit status is 0 if there is such a process or container, whatever is found.`,
		Example: "  intercede why 4711\n  intercede why web --json | jq -r '.[].findings[] | select(.level == \"problem\") | .remedy'",
		Args:    cobra.ExactArgs(1),
		PreRunE: cli.RequireRoot,
		RunE: func(c *cobra.Command, args []string) error {
			path, err := daemon.socket()
			if err != nil {
				return err
			}
			reports, err := control.GetWhy(c.Context(), path, args[0])
			if err != nil {
				return err
			}
			if len(reports) == 0 {
				return fmt.Errorf("the daemon knows no container %q: `intercede status` lists them; give the PID of one of its processes", args[0])
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(reports)
			}
			for i, r := range reports {
				if i > 0 {
					fmt.Fprintln(c.OutOrStdout())
				}
				printReport(c.OutOrStdout(), r)
			}
			return nil
		},
	}
	daemon.register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return c
}

func printReport(out io.Writer, r why.Report) {
	if p := r.Process; p != nil {
		fmt.Fprintf(out, "Process %d (%s), PID %d in its PID namespace\n", p.PID, printable(p.Comm), p.ContainerPID)
	}
	if c := r.Container; c != nil {
		printContainer(out, c)
	}
	fmt.Fprintln(out)
	for _, f := range r.Findings {
		fmt.Fprintf(out, "%-8s %s\n", strings.ToUpper(string(f.Level)), printable(f.Text))
		if f.Remedy != "" {
			fmt.Fprintf(out, "%-8s -> %s\n", "", printable(f.Remedy))
		}
	}
	if r.Container != nil {
		printRefusals(out, r.Container.Refusals)
	}
}

func printContainer(out io.Writer, c *broker.ContainerFacts) {
	fmt.Fprintf(out, "Container %s", printable(c.ID))
	if c.Name != "" {
		fmt.Fprintf(out, " (%s)", printable(c.Name))
	}
	if c.Image != "" {
		fmt.Fprintf(out, " of image %s", printable(c.Image))
	}
	generation := "an earlier daemon's policy"
	if c.Generation > 0 {
		generation = fmt.Sprintf("policy generation %d", c.Generation)
	}
	fmt.Fprintf(out, ", %s, init %d, attached %s ago, %s\n", c.Runtime, c.InitPID, age(c.Attached), generation)
}

// printRefusals prints the last calls that were refused or left to the kernel, if there were any.
func printRefusals(out io.Writer, refusals []broker.Refusal) {
	if len(refusals) > 0 {
		fmt.Fprintln(out, "\nREFUSED, OR LEFT TO THE KERNEL (the last first)")
	}
	for _, r := range refusals {
		printRefusal(out, r)
	}
}

func printRefusal(out io.Writer, r broker.Refusal) {
	e := r.Example
	result := cmp.Or(e.Errno, string(e.Outcome))
	fmt.Fprintf(out, "%s by %s (PID %d), %s ago: %s\n", e.Call, cmp.Or(printable(e.Comm), "?"), e.ContainerPID,
		time.Since(r.Last).Round(time.Second), result)
	fmt.Fprintf(out, "  %s", e.Reason)
	if e.Plugin != "" {
		fmt.Fprintf(out, " [%s]", e.Plugin)
	}
	if e.Because != "" {
		fmt.Fprintf(out, ": %s", e.Because)
	}
	if r.Calls > 1 {
		fmt.Fprintf(out, " (%d calls)", r.Calls)
	}
	fmt.Fprintln(out)
	if r.Help != "" {
		fmt.Fprintf(out, "  -> %s\n", r.Help)
	}
}
