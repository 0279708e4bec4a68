package main

import (
	"strings"
	"testing"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/sdk/sdktest"
)

func TestUsage(t *testing.T) {
	for _, line := range []string{
		"--calls 0", "--listeners -1", "--listeners 1000000", "--json --benchmarks", "now", "--fast", "demo now", "demo --fast",
	} {
		t.Run(line, func(t *testing.T) {
			r := intercedeBench(t, strings.Fields(line)...)
			if r.status != cli.ExitUsage || r.stdout != "" {
				t.Errorf("status %d: %s%s", r.status, r.stdout, r.stderr)
			}
			wantText(t, r.stderr, "intercede-bench: ")
		})
	}
}

// Every command has a help text with an example.
func TestHelp(t *testing.T) {
	for _, command := range []string{"", " demo"} {
		r := intercedeBench(t, append(strings.Fields(command), "--help")...)
		wantText(t, r.stdout, "Usage:\n  intercede-bench"+command+" [flags]", "Examples:\n  intercede-bench"+command+"\n")
	}
}

func TestConfigIsNeeded(t *testing.T) {
	sdktest.RequireRoot(t)
	for _, command := range []string{"", "demo"} {
		r := intercedeBench(t, append(strings.Fields(command), "--config", "/no/such/file")...)
		if r.status != cli.ExitFailure {
			t.Errorf("%q: status %d", command, r.status)
		}
		wantText(t, r.stderr, "--config")
	}
}
