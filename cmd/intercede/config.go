package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/intercede/intercede/core/daemon"
	"github.com/intercede/intercede/core/policy/config"
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

func (f *configFlags) options() (config.Options, error) {
	if f.pluginDir == "" {
		return config.Options{}, nil
	}
	dir, err := filepath.Abs(f.pluginDir)
	return config.Options{PluginDir: dir}, err
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
func (f *configFlags) read() (*config.Document, error) {
	options, err := f.options()
	if err != nil {
		return nil, err
	}
	doc, problems := config.Load(f.path, options)
	if len(problems) > 0 {
		return nil, printProblems(problems)
	}
	return doc, nil
}

// printProblems prints them, and returns the error that ends the command.
func printProblems(problems config.Problems) error {
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, p.Error())
	}
	return &exitError{status: exitFailure}
}
