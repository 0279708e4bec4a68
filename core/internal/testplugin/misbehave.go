package testplugin

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/intercede/intercede/sdk"
)

// ForeignSocket is what "bad_address" says that it serves on, and ForeignPath what "bad_link" leads to.
const (
	ForeignSocket = "@intercede-test-foreign"
	ForeignPath   = "/tmp/intercede-test-foreign"
)

// misbehave is a program that is no plugin, or is one in part.
func misbehave(name string) {
	manifest := len(os.Args) == 2
	switch {
	case name == "bad_garbage":
		fmt.Println("\x1b[31mhello\x00 {")
	case name == "bad_hang":
		select {}
	case name == "bad_endless":
		out := bufio.NewWriter(os.Stdout)
		for {
			if _, err := out.WriteString(strings.Repeat("x", 4096)); err != nil {
				os.Exit(1)
			}
		}
	case name == "bad_orphan":
		// A child that outlives it and holds its standard output.
		command := exec.Command("/proc/self/exe")
		command.Args = []string{prefix + "bad_hang"}
		command.Stdout, command.Stderr = os.Stdout, os.Stderr
		if err := command.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	case name == "bad_status":
		fmt.Fprintln(os.Stderr, "no such luck")
		os.Exit(9)
	case name == "bad_version" && !manifest:
		fmt.Println("1|99|unix|/nowhere|grpc|")
		select {}
	case name == "bad_address" && !manifest:
		fmt.Println("1|1|unix|" + ForeignSocket + "|grpc|")
		select {}
	case name == "bad_link" && !manifest:
		link := os.Getenv("TMPDIR") + "/link"
		if err := os.Symlink(ForeignPath, link); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("1|1|unix|" + link + "|grpc|")
		select {}
	case name == "bad_tcp" && !manifest:
		fmt.Println("1|1|tcp|127.0.0.1:1|grpc|")
		select {}
	case name == "bad_silent" && !manifest:
		os.Exit(0)
	case name == "bad_changing" && !manifest:
		sdk.Serve(&handler{name: name, change: OtherTakes})
	case name == "bad_descriptors":
		entries, _ := os.ReadDir("/proc/self/fd")
		for _, entry := range entries {
			link, _ := os.Readlink("/proc/self/fd/" + entry.Name())
			fmt.Fprintf(os.Stderr, "%s=%s\n", entry.Name(), link)
		}
		os.Exit(9)
	case name == "bad_name":
		sdk.Serve(&handler{name: "another"})
	default:
		sdk.Serve(&handler{name: name})
	}
	os.Exit(0)
}
