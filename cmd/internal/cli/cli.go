// Package cli is what the project's command lines have in common: exit statuses, and the flags that name a config.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/intercede/intercede/core/doctor"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

// Exit statuses of every command but intercede run, whose is that of its command.
const (
	ExitFailure = 1
	ExitUsage   = 2
)

// ExitError ends the program with a status; without an error nothing is printed.
type ExitError struct {
	Status int
	Err    error
}

func (e *ExitError) Error() string { return fmt.Sprint(e.Err) }

// Unwrap returns the error that is printed.
func (e *ExitError) Unwrap() error { return e.Err }

// Usagef is the error of a command line that cannot be understood.
func Usagef(format string, args ...any) error {
	return &ExitError{Status: ExitUsage, Err: fmt.Errorf(format, args...)}
}

// RequireRoot is a command's PreRunE that says in one sentence who may run it.
func RequireRoot(c *cobra.Command, _ []string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s needs root: run it with sudo", c.CommandPath())
	}
	return nil
}

// RequireKernel is a PersistentPreRunE that says in one sentence which kernel a command needs.
func RequireKernel(c *cobra.Command, _ []string) error {
	if err := doctor.Supported(); err != nil {
		return fmt.Errorf("%s %w", c.CommandPath(), err)
	}
	return nil
}

// Execute runs the program's command, prints its error and returns the program's exit status.
func Execute(root *cobra.Command) int {
	usable := false // the command line was understood
	root.SilenceErrors, root.SilenceUsage = true, true
	before := root.PersistentPreRunE
	root.PersistentPreRunE = func(c *cobra.Command, args []string) error {
		usable = true
		if before == nil {
			return nil
		}
		return before(c, args)
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return Usagef("%w\nTry '%s --help'", err, c.CommandPath())
	})
	setTimeFormat()
	// Until a command has a log of its own.
	log := zerolog.New(Console(os.Stderr, nil)).With().Timestamp().Logger()
	err := root.ExecuteContext(log.WithContext(context.Background()))
	var exit *ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if exit.Err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", root.Name(), exit.Err)
		}
		return exit.Status
	case !usable:
		fmt.Fprintf(os.Stderr, "%[1]s: %[2]v\nTry '%[1]s --help'\n", root.Name(), err)
		return ExitUsage
	default:
		fmt.Fprintf(os.Stderr, "%s: %v\n", root.Name(), err)
		return ExitFailure
	}
}
