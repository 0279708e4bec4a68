//go:build runtimes

package main

import (
	"os"
	"os/exec"
	"testing"

	"github.com/intercede/intercede/internal/machine"
	"github.com/intercede/intercede/sdk/sdktest"
)

// TestPods runs the pods of deploy/kubernetes, and further ones, on nodes with containerd 2 and without a kubelet.
// INTERCEDE_KUBERNETES names the folder of its programs: see scripts/kubernetes-programs.
func TestPods(t *testing.T) {
	programs := os.Getenv("INTERCEDE_KUBERNETES")
	if programs == "" {
		sdktest.Lacking(t, "INTERCEDE_KUBERNETES is not set: run make test-kubernetes")
	}
	require(t, "busybox", "jq", "setpriv")
	sources := newSources(t)
	mustRun(t, exec.Command("sh", "-ec", `
		cp -r "$1" "$2/kubernetes"
		cp testdata/pods/* "$2"
		mkdir "$2/deploy"
		cp -r ../../deploy/kubernetes ../../deploy/systemd "$2/deploy"
		CGO_ENABLED=0 go build -o "$2/bin/calls" ./testdata/calls
		cd ../../deploy/kubernetes
		GOWORK=off CGO_ENABLED=0 go build -o "$2/podfiles" ./podfiles`, "sh", programs, sources))
	t.Run("systemd", func(t *testing.T) { machine.Systemd(t, sources, machinePatience) })
	t.Run("no systemd", func(t *testing.T) {
		t.Log(machine.Run(t, sources, mustRun(t, exec.Command("cat", sources+"/test")), machinePatience))
	})
}
