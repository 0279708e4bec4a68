package main

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/scaffold"
	"github.com/spf13/cobra"
)

func pluginNewCommand() *cobra.Command {
	var options scaffold.Options
	c := &cobra.Command{
		Use:   "new NAME --syscall SYSCALL",
		Short: "Make a folder with a new plugin",
		Long: `New makes the folder NAME with a plugin that takes the system call SYSCALL: a handler, a test that makes the call in a real
container, a README in the sections that all plugins have, with the lines for config.toml, and what builds it all by itself.

A module of Go requires the SDK of this intercede's own version. If that is not a release, or the SDK is to be that of sources
on this machine, --sdk says where they are: the folder then has a go.work, which no one but you needs.

With --lang c the handler calls a C function by cgo, so that go build needs gcc. Distributions ship no gRPC library for C, which
a plugin without the SDK for Go would need.`,
		Example: `  intercede plugin new hostname --syscall sethostname && cd hostname && go mod tidy && go test -exec sudo .
  intercede plugin new hostname --syscall sethostname --sdk ~/src/intercede`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			options.Name, options.Version = args[0], sdkVersion()
			if options.Syscall == "" {
				return cli.Usagef("--syscall is missing: name the system call that the plugin takes, such as sethostname")
			}
			if err := options.Check(); err != nil {
				return cli.Usagef("%w", err)
			}
			if err := scaffold.Write(options.Name, options); err != nil {
				return err
			}
			printNext(c.OutOrStdout(), options)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&options.Syscall, "syscall", "", "system call `NAME` that the plugin takes")
	f.StringVar(&options.Language, "lang", "go", "`LANGUAGE` of the plugin: "+strings.Join(scaffold.Languages, " or "))
	f.StringVar(&options.Checkout, "sdk", "", "build against the SDK in the sources of intercede in `DIR`")
	return c
}

// sdkVersion is the version of the SDK that this program was built with; empty: it is not one that can be fetched.
func sdkVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, module := range info.Deps {
		if module.Path == "github.com/intercede/intercede/sdk" && module.Replace == nil && strings.HasPrefix(module.Version, "v") {
			return module.Version
		}
	}
	return ""
}

// printNext prints the commands that come next.
func printNext(out io.Writer, o scaffold.Options) {
	commands := []string{"cd " + o.Name}
	sudo := ""
	if os.Geteuid() != 0 {
		sudo = "sudo "
	}
	switch {
	case o.Language == "python":
		commands = append(commands, "make", sudo+"make test")
	case o.Checkout == "":
		commands = append(commands, "go mod tidy")
		fallthrough
	default:
		test := "go test ."
		if sudo != "" {
			test = "go test -exec sudo ."
		}
		commands = append(commands, test, "go build")
	}
	commands = append(commands, sudo+"intercede plugin run ./intercede-plugin-"+o.Name+" -- CMD")
	fmt.Fprintf(out, "The folder %s has a plugin that takes %s. Go on with\n\n", o.Name, o.Syscall)
	for _, command := range commands {
		fmt.Fprintln(out, "    "+command)
	}
}
