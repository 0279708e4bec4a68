package main

import (
	"fmt"
	"os"

	"github.com/intercede/intercede/core/filter"
	"github.com/spf13/cobra"
)

func profileCommand() *cobra.Command {
	var config configFlags
	var format, base string
	c := &cobra.Command{
		Use:   "profile --format FORMAT",
		Short: "Print the seccomp profile that makes a runtime notify",
		Long: `Profile prints a seccomp profile that notifies what the enabled plugins take, and names the daemon's socket as
listenerPath. Without --base it allows all else; with one, the base decides on all else. The base may be linux.seccomp of
a config.json, or a profile of podman or docker, such as /usr/share/containers/seccomp.json.`,
		Example: `  intercede profile --format oci > notify.json
  intercede profile --format oci --base /usr/share/containers/seccomp.json > notify.json
  podman run --security-opt seccomp=notify.json --userns=auto ...`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if format != "oci" {
				return &exitError{exitUsage, fmt.Errorf("--format %q: want oci", format)}
			}
			setup, err := config.load(c.Context())
			if err != nil {
				return err
			}
			var profile []byte
			if base != "" {
				if profile, err = os.ReadFile(base); err != nil {
					return fmt.Errorf("base profile: %w", err)
				}
			}
			if profile, err = filter.OCI(profile, setup.Manifests, setup.Policy.Broker.Socket); err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(profile)
			return err
		},
	}
	config.register(c)
	c.Flags().StringVar(&format, "format", "", "`FORMAT` of the profile: oci")
	c.Flags().StringVar(&base, "base", "", "profile `FILE` that decides on all other calls")
	return c
}
