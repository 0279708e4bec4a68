package filter

import (
	"math/rand/v2"
	"os"
	"testing"
)

// What LXC's own policy becomes, with all shipped plugins, decides as it should on every architecture.
func TestLXCKeepsItsOwnPolicies(t *testing.T) {
	bases := map[string]string{"none": "", "common": commonPolicy,
		"allowlist": "2\nallowlist errno 38\n[all]\nmknod\nsetxattr allow\nread\nwrite errno 1\n"}
	if installed, err := os.ReadFile("/usr/share/lxc/config/common.seccomp"); err == nil {
		bases["installed"] = string(installed)
	}
	for name, base := range bases {
		t.Run(name, func(t *testing.T) { checkLXCMerge(t, rand.New(rand.NewPCG(1, 2)), base, shipped) })
	}
}

func TestLXCMergesRandomPolicies(t *testing.T) {
	merges := 0
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		if base := randomLXCPolicy(random); checkLXCMerge(t, random, base, randomManifests(random)) {
			merges++
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if merges < 50 {
		t.Errorf("only %d random policies could be merged: the test shows nothing", merges)
	}
}
