package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/intercede/intercede/core/daemon"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/spf13/cobra"
)

// DefaultConfig is the config of a host.
const DefaultConfig = "/etc/intercede/config.toml"

// ConfigFlags are the flags of every command that reads the config.
type ConfigFlags struct {
	Path      string
	pluginDir string
}

// Register adds the flags to a command.
func (f *ConfigFlags) Register(c *cobra.Command) {
	c.Flags().StringVar(&f.Path, "config", DefaultConfig, "config `FILE`")
	c.Flags().StringVar(&f.pluginDir, "plugin-dir", "", "`DIR` of the plugins' binaries, instead of the config's plugin_dir")
}

// Options are what the flags say besides the config's path.
func (f *ConfigFlags) Options() (config.Options, error) {
	if f.pluginDir == "" {
		return config.Options{}, nil
	}
	dir, err := filepath.Abs(f.pluginDir)
	return config.Options{PluginDir: dir}, err
}

// Load reads and checks the config with all that it names. Problems are printed.
func (f *ConfigFlags) Load(ctx context.Context) (*daemon.Setup, error) {
	return f.load(ctx, daemon.Load)
}

// LoadToServe is Load for a daemon that is about to start.
func (f *ConfigFlags) LoadToServe(ctx context.Context) (*daemon.Setup, error) {
	return f.load(ctx, daemon.LoadToServe)
}

func (f *ConfigFlags) load(ctx context.Context, load func(context.Context, string, config.Options) (*daemon.Setup, config.Problems)) (*daemon.Setup, error) {
	options, err := f.Options()
	if err != nil {
		return nil, err
	}
	setup, problems := load(ctx, f.Path, options)
	if len(problems) > 0 {
		return nil, PrintProblems(problems)
	}
	return setup, nil
}

// Read reads the config alone; no plugin is run. Problems are printed.
func (f *ConfigFlags) Read() (*config.Document, error) {
	options, err := f.Options()
	if err != nil {
		return nil, err
	}
	doc, problems := config.Load(f.Path, options)
	if len(problems) > 0 {
		return nil, PrintProblems(problems)
	}
	return doc, nil
}

// PrintProblems prints them, and returns the error that ends the command.
func PrintProblems(problems config.Problems) error {
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, p.Error())
	}
	return &ExitError{Status: ExitFailure}
}
