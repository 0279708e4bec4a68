// Command intercede intercepts system calls of unprivileged containers; see the README.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/intercede/intercede/core/doctor"
	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/internal/sandbox"
	"github.com/spf13/cobra"
)

func main() {
	run.Init()
	sandbox.Init()
	doctor.Init()
	if calledAsRuntime() {
		os.Exit(executeRuntime(os.Args[1:]))
	}
	os.Exit(execute())
}

// Exit statuses of every command but run, whose is that of its command.
const (
	exitFailure = 1
	exitUsage   = 2
)

// exitError ends the program with a status; without an error nothing is printed.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string { return fmt.Sprint(e.err) }
func (e *exitError) Unwrap() error { return e.err }

func execute() int {
	usable := false // the command line was understood
	root := &cobra.Command{
		Use:              "intercede",
		Short:            "System call interception for unprivileged containers",
		SilenceErrors:    true,
		SilenceUsage:     true,
		PersistentPreRun: func(*cobra.Command, []string) { usable = true },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &exitError{exitUsage, fmt.Errorf("%w\nTry '%s --help'", err, c.CommandPath())}
	})
	root.AddCommand(runCommand(), serveCommand(), checkCommand(), doctorCommand(), profileCommand(), statusCommand(), policyCommand(), pluginCommand(),
		benchCommand(), demoCommand(), ociRuntimeCommand())
	err := root.Execute()
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if exit.err != nil {
			fmt.Fprintln(os.Stderr, "intercede:", exit.err)
		}
		return exit.status
	case !usable:
		fmt.Fprintf(os.Stderr, "intercede: %v\nTry 'intercede --help'\n", err)
		return exitUsage
	default:
		fmt.Fprintln(os.Stderr, "intercede:", err)
		return exitFailure
	}
}
