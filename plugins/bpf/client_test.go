package bpf

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

// buildClient builds testdata/client, linked statically. On machines without Go, INTERCEDE_TEST_PROGRAM is the program.
func buildClient(t *testing.T) string {
	t.Helper()
	if client := os.Getenv("INTERCEDE_TEST_PROGRAM"); client != "" {
		return client
	}
	client := filepath.Join(t.TempDir(), "client")
	build := exec.Command("go", "build", "-o", client, "./testdata/client")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		sdktest.Lacking(t, "build the client: %v\n%s", err, output)
	}
	return client
}

// TestClient runs programs of cilium/ebpf, in a container and as the host's root, to the same outcome.
func TestClient(t *testing.T) {
	sdktest.RequireRoot(t)
	client := buildClient(t)
	for task, want := range map[string]string{
		"attach":  "before: 0\nattached: 1\ndetached: 0\n",
		"link":    "attached: 1\nupdated: 0\n",
		"replace": "attached: 1\nreplaced: 0\n",
		// To see whether programs can be attached and replaced, cilium/ebpf loads one of another type.
		"runc": "programs before: 0\nreplace is known: true\nprograms after: 1 true\nby id: <nil>\nattached: 1\n",
		"map":  "a map: true\n",
	} {
		t.Run(task, func(t *testing.T) {
			c, _ := enabledContainer(t)
			got := c.Run(t, c.Install(t, client), task, "/top/own")
			if got.Stdout != want {
				t.Errorf("got\n%swant\n%s%s", got.Stdout, want, got.Stderr)
			}
		})
	}
	t.Run("broken", func(t *testing.T) {
		c, _ := enabledContainer(t)
		got := c.Run(t, c.Install(t, client), "broken", "-")
		host := newTree(t).container(t, nil, sdktest.WithRealRoot())
		want := host.Run(t, host.Install(t, client), "broken", "-")
		if got.Stdout != want.Stdout || !strings.Contains(got.Stdout, "invalid bpf_context access off=100") {
			t.Errorf("got\n%sreal root gets\n%s", got.Stdout, want.Stdout)
		}
	})
}
