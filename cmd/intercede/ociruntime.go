package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/ociruntime"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/spf13/cobra"
)

const (
	ociRuntime = "oci-runtime"

	// runtimeName is the name of a link to this program under which it is an OCI runtime.
	runtimeName = "intercede-runc"

	runtimeFlag = "runtime" // names an OCI runtime
)

func calledAsRuntime() bool { return filepath.Base(os.Args[0]) == runtimeName }

// The main goroutine begins on the process's first thread, where ociruntime.Exec wants to be.
func init() {
	if calledAsRuntime() || len(os.Args) > 1 && os.Args[1] == ociRuntime {
		runtime.LockOSThread()
	}
}

// executeRuntime is the program under the name intercede-runc. It returns only if it fails.
func executeRuntime(args []string) int {
	err := ociruntime.Exec(context.Background(), ociruntime.Options{Config: cli.DefaultConfig}, args)
	fmt.Fprintf(os.Stderr, "%s: %v\n", runtimeName, err)
	return cli.ExitFailure
}

func ociRuntimeCommand() *cobra.Command {
	var options ociruntime.Options
	c := &cobra.Command{
		Use:   ociRuntime + " [flags] -- COMMAND...",
		Short: "Run as an OCI runtime that adds interception to the containers it creates",
		Long: `Oci-runtime executes the OCI runtime that the config names (oci_runtime.runtime), with the arguments behind --. Where they
create a container, it first asks the daemon which system calls the container has to notify, by the config's rules, and adds
these and the daemon's socket to linux.seccomp of the bundle's config.json. A container for which the daemon wants nothing stays as
it is. One without a user namespace of its own notifies only what plugins take that serve any container, such as sysinfo. With
oci_runtime.mount_dev it mounts the tmpfs on /dev in the runtime's place, for containers that have device nodes made: see docs/runtimes.

A link to this program named ` + runtimeName + ` is "intercede oci-runtime --" with ` + cli.DefaultConfig + `: engines take it as a runtime.`,
		Example: "  intercede oci-runtime --runtime crun -- run --bundle /srv/web web\n" +
			"  ln -s intercede /usr/local/bin/" + runtimeName + "\n" +
			"  podman --runtime /usr/local/bin/" + runtimeName + " run --userns=auto ...",
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed(runtimeFlag) {
				if err := checkRuntimeFlag(options.Runtime); err != nil {
					return err
				}
			}
			return ociruntime.Exec(c.Context(), options, args)
		},
	}
	c.Flags().SetInterspersed(false)
	c.Flags().StringVar(&options.Config, "config", cli.DefaultConfig, "config `FILE`")
	c.Flags().StringVar(&options.Runtime, runtimeFlag, "", "`NAME` or path of the runtime, instead of the config's oci_runtime.runtime")
	return c
}

func checkRuntimeFlag(runtime string) error {
	if err := config.CheckOCIRuntime(runtime); err != nil {
		return cli.Usagef("--%s %q: %w", runtimeFlag, runtime, err)
	}
	return nil
}
