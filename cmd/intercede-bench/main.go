// Command intercede-bench measures what a notification costs, and shows what the plugins do.
package main

import (
	"fmt"
	"os"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/internal/sandbox"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

func main() {
	run.Init()
	sandbox.Init()
	root := benchCommand()
	root.AddCommand(demoCommand())
	root.PersistentPreRunE = cli.RequireKernel
	os.Exit(cli.Execute(root))
}

// requireRoot says what a command needs before anything fails for it.
func requireRoot(c *cobra.Command) error {
	if os.Geteuid() == 0 {
		return nil
	}
	return fmt.Errorf("%s must be started as root, because it starts containers and plugins: use sudo", c.CommandPath())
}

// warnings is the logger of both commands, whose output is a table.
func warnings() zerolog.Logger {
	return zerolog.New(os.Stderr).Level(zerolog.WarnLevel).With().Timestamp().Logger()
}
