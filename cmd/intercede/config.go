package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/intercede/intercede/core/daemon"
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

// load reads and checks the config with all that it names. Problems are printed.
func (f *configFlags) load(ctx context.Context) (*daemon.Setup, error) {
	options, err := f.options()
	if err != nil {
		return nil, err
	}
	setup, problems := daemon.Load(ctx, f.path, options)
	if len(problems) > 0 {
		return nil, printProblems(problems)
	}
	return setup, nil
}

// read reads the config alone; no plugin is run. Problems are printed.
func (f *configFlags) read() (*policy.Document, error) {
	options, err := f.options()
	if err != nil {
		return nil, err
	}
	config, problems := policy.Load(f.path, options)
	if len(problems) > 0 {
		return nil, printProblems(problems)
	}
	return config, nil
}

// printProblems prints them, and returns the error that ends the command.
func printProblems(problems policy.Problems) error {
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, p.Error())
	}
	return &exitError{status: exitFailure}
}
