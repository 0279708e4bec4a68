package main

import (
	"fmt"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/spf13/cobra"
)

// daemonFlags name the daemon that a command asks.
type daemonFlags struct {
	config  cli.ConfigFlags
	control string
	command *cobra.Command
}

func (f *daemonFlags) register(c *cobra.Command) {
	f.command = c
	f.config.Register(c)
	c.Flags().StringVar(&f.control, "control", "", "admin `SOCKET` of the daemon, instead of what the config says")
}

// requireRoot is the PreRunE of commands that ask on a socket of root's, unless another one is named.
func (f *daemonFlags) requireRoot(c *cobra.Command, args []string) error {
	if f.control != "" {
		return nil
	}
	return cli.RequireRoot(c, args)
}

// socket returns the path of the daemon's admin socket: what the flag says, what the config says, though it may have
// problems, or the default without a config.
func (f *daemonFlags) socket() (string, error) {
	if f.control != "" {
		return f.control, nil
	}
	doc, problems := config.Load(f.config.Path, config.Options{})
	switch {
	case doc == nil && f.command.Flags().Changed("config"):
		return "", cli.PrintProblems(problems)
	case doc == nil:
		return config.DefaultControl, nil
	case len(problems) > 0:
		fmt.Fprintf(f.command.ErrOrStderr(), "%s has problems (`intercede check` lists them): asking on %s\n", f.config.Path, doc.Broker.Control)
	}
	return doc.Broker.Control, nil
}
