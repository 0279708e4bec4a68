// Command intercede intercepts system calls of unprivileged containers; see the README.
package main

import (
	"os"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/conformance/caller"
	"github.com/intercede/intercede/core/doctor"
	"github.com/intercede/intercede/core/keep"
	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/internal/sandbox"
	"github.com/intercede/intercede/internal/version"
	"github.com/spf13/cobra"
)

func main() {
	keep.Init()
	run.Init()
	sandbox.Init()
	doctor.Init()
	caller.Init()
	if calledAsRuntime() {
		os.Exit(executeRuntime(os.Args[1:]))
	}
	os.Exit(cli.Execute(rootCommand()))
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:     "intercede",
		Short:   "System call interception for unprivileged containers",
		Version: version.Number(),

		PersistentPreRunE: requireKernel,
	}
	root.AddCommand(
		runCommand(), serveCommand(), keepCommand(), checkCommand(), doctorCommand(), profileCommand(), statusCommand(), healthCommand(), reloadCommand(),
		upgradeCommand(), revokeCommand(), topCommand(), traceCommand(), whyCommand(), metricsCommand(), policyCommand(), pluginCommand(), ociRuntimeCommand(), versionCommand(),
	)
	addCompletions(root)
	return root
}

// anyKernel are the commands that say something on any kernel, or are needed to end what runs.
var anyKernel = map[string]bool{"doctor": true, "version": true, "completion": true, "help": true, "new": true, ociRuntime: true}

func requireKernel(c *cobra.Command, args []string) error {
	for at := c; at != nil; at = at.Parent() {
		if anyKernel[at.Name()] {
			return nil
		}
	}
	return cli.RequireKernel(c, args)
}
