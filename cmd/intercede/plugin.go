package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/daemon"
	"github.com/intercede/intercede/core/grant"
	"github.com/intercede/intercede/internal/wire"
	"github.com/spf13/cobra"
)

func pluginCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "plugin",
		Short:   "Installed plugins, and those that you write",
		Example: "  intercede plugin list",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return cli.Usagef("a subcommand is missing\nTry '%s --help'", c.CommandPath())
		},
	}
	c.AddCommand(pluginListCommand(), pluginNewCommand(), pluginRunCommand(), pluginTestCommand())
	return c
}

func pluginListCommand() *cobra.Command {
	var config cli.ConfigFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the installed plugins",
		Long: `List shows the plugins whose binaries are in the config's plugin folder, or that the config names, whether they are
enabled, what their manifests say, and whether the config grants what they ask for. It exits 1 if an enabled one cannot be used.`,
		Example: "  intercede plugin list\n  intercede plugin list --json | jq '.[].syscalls'",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			read, err := config.Read()
			if err != nil {
				return err
			}
			plugins := describePlugins(daemon.ListInstalled(c.Context(), read))
			return printPlugins(c.OutOrStdout(), plugins, asJSON)
		},
	}
	config.Register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return c
}

// listedPlugin is a plugin as `plugin list --json` shows it.
type listedPlugin struct {
	Name         string   `json:"name"`
	Path         string   `json:"path"`
	Enabled      bool     `json:"enabled"`
	Version      string   `json:"version,omitempty"`
	Description  string   `json:"description,omitempty"`
	Syscalls     []string `json:"syscalls,omitempty"`
	Capabilities []string `json:"capabilities,omitempty"`
	// Asks is all that its process asks for, and NotGranted what the config does not grant of it.
	Asks       *grant.Powers `json:"asks,omitempty"`
	NotGranted *grant.Powers `json:"not_granted,omitempty"`
	Error      string        `json:"error,omitempty"`
}

func describePlugins(installed []*daemon.Installed) []listedPlugin {
	list := make([]listedPlugin, 0, len(installed))
	for _, p := range installed {
		described := listedPlugin{
			Name: p.Name, Path: p.Path, Enabled: p.Enabled, Version: p.Manifest.GetVersion(),
			Description: p.Manifest.GetDescription(), Syscalls: syscallNames(p.Manifest), Capabilities: p.Manifest.GetCapabilities(),
			Asks: powers(grant.Asked(p.Manifest)), NotGranted: powers(p.Missing),
		}
		if p.Err != nil {
			described.Error = p.Err.Error()
		}
		list = append(list, described)
	}
	return list
}

// powers is nil for none.
func powers(p grant.Powers) *grant.Powers {
	if p.None() {
		return nil
	}
	return &p
}

func syscallNames(m *wire.Manifest) []string {
	var names []string
	for _, s := range m.GetSyscalls() {
		names = append(names, s.GetName())
	}
	return names
}

func printPlugins(out io.Writer, plugins []listedPlugin, asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(out).Encode(plugins); err != nil {
			return err
		}
	} else if err := printPluginTable(out, plugins); err != nil {
		return err
	}
	for _, p := range plugins {
		if p.Enabled && (p.Error != "" || p.NotGranted != nil) {
			return &cli.ExitError{Status: cli.ExitFailure}
		}
	}
	return nil
}

func printPluginTable(out io.Writer, plugins []listedPlugin) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PLUGIN\tENABLED\tVERSION\tSYSCALLS\tCAPABILITIES\tGRANTED")
	var errs []string
	for _, p := range plugins {
		enabled := "no"
		if p.Enabled {
			enabled = "yes"
		}
		if p.Error != "" {
			errs = append(errs, p.Error)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, enabled, listOf(p.Version), listOf(p.Syscalls...),
			listOf(p.Capabilities...), grantedCell(p.NotGranted))
	}
	for _, text := range errs {
		fmt.Fprintln(w, "\n"+text)
	}
	return w.Flush()
}

func grantedCell(missing *grant.Powers) string {
	if missing != nil {
		return "not: " + missing.String()
	}
	return "yes"
}

// listOf joins what there is; a cell of a table is not left empty.
func listOf(items ...string) string { return cmp.Or(strings.Join(items, ","), "-") }
