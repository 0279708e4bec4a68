//go:build runtimes

package main

import (
	"testing"
)

// TestKubernetesNode installs on a node with systemd, as the DaemonSet's containers do.
func TestKubernetesNode(t *testing.T) { underSystemd(t, "testdata/kubernetes-test") }
