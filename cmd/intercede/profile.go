package main

import (
	"fmt"
	"os"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/daemon"
	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/core/ociruntime"
	"github.com/intercede/intercede/internal/wire"
	"github.com/spf13/cobra"
)

// profileFormats make a profile of a base, which may be empty. waitKillable: the runtime takes the filter flag of that
// name.
var profileFormats = map[string]func(base []byte, setup *daemon.Setup, manifests []*wire.Manifest, waitKillable bool) ([]byte, error){
	"oci": func(base []byte, setup *daemon.Setup, manifests []*wire.Manifest, waitKillable bool) ([]byte, error) {
		return filter.OCI(base, manifests, filter.Listener{Path: setup.Policy.Broker.Socket, WaitKillable: waitKillable})
	},
	"lxc": func(base []byte, _ *daemon.Setup, manifests []*wire.Manifest, _ bool) ([]byte, error) {
		return filter.LXC(base, manifests)
	},
}

func profileCommand() *cobra.Command {
	var config cli.ConfigFlags
	var format, base, runtime string
	var privileged bool
	c := &cobra.Command{
		Use:   "profile --format FORMAT",
		Short: "Print the seccomp profile that makes a runtime notify",
		Long: `Profile prints a seccomp profile that notifies what the enabled plugins take. Without --base it allows all else; with
one, the base decides on all else.

Format oci is for OCI runtimes; it names the daemon's socket as listenerPath. The base may be linux.seccomp of a
config.json, or a profile of podman or docker, such as /usr/share/containers/seccomp.json. Give the runtime that will get
the profile with --runtime: if it takes SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (crun 1.6, runc 1.5 with libseccomp 2.6), the
profile has that flag. Without it a call that a signal interrupts can be performed twice; a runtime that does not take it
refuses the profile.

Format lxc is for lxc.seccomp.profile; the base is such a file, such as /usr/share/lxc/config/common.seccomp.

Containers without a user namespace of their own are served by few plugins, such as sysinfo: give their profile with
--privileged, which leaves the others out.`,
		Example: `  intercede profile --format oci --runtime crun > notify.json
  intercede profile --format oci --base /usr/share/containers/seccomp.json > notify.json
  podman run --security-opt seccomp=notify.json --userns=auto ...

  intercede profile --format lxc --base /usr/share/lxc/config/common.seccomp > notify.seccomp
  lxc-start -n c1 -s lxc.seccomp.profile=notify.seccomp -s lxc.seccomp.notify.proxy=unix:/run/intercede/lxc.sock`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			merge, known := profileFormats[format]
			if !known {
				return cli.Usagef("--format %q: want oci or lxc", format)
			}
			waitKillable, err := takesWaitKillable(c, format, runtime)
			if err != nil {
				return err
			}
			setup, err := config.Load(c.Context())
			if err != nil {
				return err
			}
			var profile []byte
			if base != "" {
				if profile, err = os.ReadFile(base); err != nil {
					return fmt.Errorf("base profile: %w", err)
				}
			}
			manifests := setup.Manifests
			if privileged {
				manifests = setup.ManifestsForAny()
			}
			if profile, err = merge(profile, setup, manifests, waitKillable); err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(profile)
			return err
		},
	}
	config.Register(c)
	c.Flags().StringVar(&format, "format", "", "`FORMAT` of the profile: oci or lxc")
	c.Flags().StringVar(&base, "base", "", "profile `FILE` that decides on all other calls")
	c.Flags().StringVar(&runtime, runtimeFlag, "", "`NAME` or path of the OCI runtime that will get the profile")
	c.Flags().BoolVar(&privileged, "privileged", false, "notify only what plugins take that serve containers without a user namespace")
	return c
}

// takesWaitKillable reports whether the runtime of the command line takes the flag. One that is not known may refuse
// it.
func takesWaitKillable(c *cobra.Command, format, runtime string) (bool, error) {
	if !c.Flags().Changed(runtimeFlag) {
		return false, nil
	}
	if format != "oci" {
		return false, cli.Usagef("--%s %q: it is for --format oci", runtimeFlag, runtime)
	}
	if err := checkRuntimeFlag(runtime); err != nil {
		return false, err
	}
	path, err := ociruntime.FindRuntime(runtime)
	if err != nil {
		return false, fmt.Errorf("--%s %q: %w", runtimeFlag, runtime, err)
	}
	return ociruntime.TakesWaitKillable(c.Context(), path), nil
}
