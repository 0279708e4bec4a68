package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"time"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/conformance"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func pluginTestCommand() *cobra.Command {
	var settings []string
	var timeout time.Duration
	var logging logFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "test BINARY",
		Short: "Test what every plugin must do",
		Long: `Test runs the plugin BINARY in its sandbox, with all that its manifest asks for, and has containers make the calls that
it takes: with pointers of every kind, from 32-bit callers, from a nested user namespace, from many threads at once, from
callers that are killed, and with the plugin killed when it has the answer. It tests what every plugin must do, and not
what the answers mean: the plugin lives on, answers in time, closes what it opens, and is refused no system call.

It needs root, and neither a config nor an installed plugin: a copy of BINARY is used. The arguments of the calls are
made up. The plugin acts on them with its capabilities: use a machine for tests.

It exits 1 if a check fails. A check that could not be made is skipped, and says why.`,
		Example: `  intercede plugin test ./intercede-plugin-hostname
  intercede plugin test ./intercede-plugin-mount --set 'allowed=["ext4"]' --json | jq '.[] | select(.status == "FAIL")'`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			given, err := parsePairs("set", settings)
			if err != nil {
				return err
			}
			return testPlugin(c, conformance.Options{Binary: args[0], Settings: given, Timeout: timeout}, &logging, asJSON)
		},
	}
	c.Flags().StringArrayVar(&settings, "set", nil, "setting `KEY=VALUE` of the plugin, a value as in config.toml, may be repeated")
	c.Flags().DurationVar(&timeout, "timeout", 0, "`TIME` that the plugin has for a call, instead of 10s")
	c.Flags().BoolVar(&asJSON, "json", false, "print the findings as a JSON array")
	logging.register(c)
	return c
}

func testPlugin(c *cobra.Command, options conformance.Options, logging *logFlags, asJSON bool) error {
	log, flush, err := logging.open(config.Broker{LogLevel: "disabled", LogFormat: "console"})
	if err != nil {
		return err
	}
	defer flush()
	ctx, stop := signal.NotifyContext(c.Context(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	findings := []conformance.Finding{}
	options.Log = log
	options.Report = func(f conformance.Finding) {
		findings = append(findings, f)
		if !asJSON {
			printFinding(c.OutOrStdout(), f)
		}
	}
	if err := conformance.Run(log.WithContext(ctx), options); err != nil {
		return explainTest(ctx, err)
	}
	if asJSON {
		if err := json.NewEncoder(c.OutOrStdout()).Encode(findings); err != nil {
			return err
		}
	}
	return summarize(c.OutOrStdout(), findings, asJSON)
}

// explainTest is for an error by which the checks could not be made.
func explainTest(ctx context.Context, err error) error {
	var problems config.Problems
	switch {
	case errors.As(err, &problems):
		return cli.Usagef("%w", problems)
	case ctx.Err() != nil:
		return &cli.ExitError{Status: cli.ExitFailure, Err: errors.New("interrupted")}
	default:
		return err
	}
}

func printFinding(out io.Writer, f conformance.Finding) {
	fmt.Fprintf(out, "%-4s  %-5s  %-18s  %-16s  %s\n", f.Status, listOf(f.Transport), listOf(f.Syscall), f.Check, f.Text)
	if f.Next != "" {
		fmt.Fprintf(out, "      %s\n", f.Next)
	}
}

// summarize counts the findings; the error says that a check failed.
func summarize(out io.Writer, findings []conformance.Finding, asJSON bool) error {
	counts := map[conformance.Status]int{}
	for _, f := range findings {
		counts[f.Status]++
	}
	if !asJSON {
		fmt.Fprintf(out, "%d ok, %d failed, %d skipped, %d warnings\n",
			counts[conformance.OK], counts[conformance.Fail], counts[conformance.Skip], counts[conformance.Warn])
	}
	if counts[conformance.Fail] > 0 {
		return &cli.ExitError{Status: cli.ExitFailure}
	}
	return nil
}
