package main

import (
	"cmp"
	"context"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/core/top"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// completionPatience is how long a shell waits for the daemon.
const completionPatience = 2 * time.Second

// addCompletions has the shell complete what a command and those below it take, by the placeholders of their usage:
// ID of an argument, and those of valuesOf. What else there is stays a file.
func addCompletions(c *cobra.Command) {
	_, arguments, _ := strings.Cut(c.Use, " ")
	switch {
	case strings.Contains(arguments, "ID"):
		c.ValidArgsFunction = completeIDs
	case c.HasSubCommands():
	case arguments == "" || strings.HasPrefix(arguments, "--"):
		c.ValidArgsFunction = cobra.NoFileCompletions
	}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		placeholder, _ := pflag.UnquoteUsage(f)
		if placeholder == "DIR" {
			c.MarkFlagDirname(f.Name)
		}
		if values := valuesOf(f.Name, placeholder); values != nil {
			c.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
		}
	})
	for _, below := range c.Commands() {
		addCompletions(below)
	}
}

// valuesOf are the values of a flag; nil: any.
func valuesOf(flag, placeholder string) []string {
	switch {
	case placeholder == "LEVEL":
		return []string{"trace", "debug", "info", "warn", "error"}
	case placeholder == "FORMAT":
		return slices.Sorted(maps.Keys(profileFormats))
	case placeholder == "COLUMN":
		return top.SortTitles()
	case placeholder == "KIND":
		return []string{config.RuntimeOCI, config.RuntimeLXC, config.RuntimeRun}
	case flag == runtimeFlag:
		return slices.DeleteFunc([]string{"crun", "runc", "youki"}, func(name string) bool {
			_, err := exec.LookPath(name)
			return err != nil
		})
	}
	return nil
}

// completeIDs completes the first argument to the IDs of the daemon's containers.
func completeIDs(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmp.Or(c.Context(), context.Background()), completionPatience)
	defer cancel()
	path, err := socketOf(c)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	status, err := control.GetStatus(ctx, path)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var ids []string
	for _, container := range status.Containers {
		ids = append(ids, container.ID)
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// socketOf is the admin socket that the flags name, as far as the command has them.
func socketOf(c *cobra.Command) (string, error) {
	if path, err := c.Flags().GetString("control"); err == nil && path != "" {
		return path, nil
	}
	path, err := c.Flags().GetString("config")
	if err != nil {
		return "", err
	}
	doc, _ := config.Load(path, config.Options{})
	if doc == nil {
		return config.DefaultControl, nil
	}
	return doc.Broker.Control, nil
}
