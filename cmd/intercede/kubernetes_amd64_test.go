//go:build runtimes

package main

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
)

// The profile that is shipped for amd64 is that of the shipped config.
func TestKubernetesProfile(t *testing.T) {
	s := newSite(t, "")
	mustRun(t, exec.Command("install", "-m", "644", "../../config.toml", s.config()))
	want := mustRun(t, program("profile", "--config", s.config(), "--plugin-dir", binaries, "--format", "oci"))
	const file = "../../deploy/kubernetes/intercede.json"
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, []byte(want)) {
		t.Errorf("%s is not of the shipped config: make it again with\n"+
			"bin/intercede profile --config bin/config.toml --plugin-dir bin --format oci >deploy/kubernetes/intercede.json", file)
	}
}
