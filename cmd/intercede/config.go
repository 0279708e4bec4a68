package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/intercede/intercede/core/policy"
	"github.com/spf13/cobra"
)

const defaultConfig = "/etc/intercede/config.toml"

// configFlags are the flags of every command that reads the config.
type configFlags struct {
	path      string
	pluginDir string
}

func (f *configFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.path, "config", defaultConfig, "config `FILE`")
	c.Flags().StringVar(&f.pluginDir, "plugin-dir", "", "`DIR` of the plugins' binaries, in the place of the config's plugin_dir")
}

func (f *configFlags) options() (policy.Options, error) {
	if f.pluginDir == "" {
		return policy.Options{}, nil
	}
	dir, err := filepath.Abs(f.pluginDir)
	return policy.Options{PluginDir: dir}, err
}

// printProblems prints them, and returns the error that ends the command.
func printProblems(problems policy.Problems) error {
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, p.Error())
	}
	return &exitError{status: exitFailure}
}
