package policy

import (
	"slices"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/wire"
)

// A plugin is asked about what some container can have: not about rules alone that never match alone, nor twice.
func TestVariants(t *testing.T) {
	policy, problems := resolve(t, `
[plugins.sysinfo]
enabled = false
[plugins.mount.config]
allowed = ["ext4"]
[[container]] # matches all
plugins.mount.config.shift = true
[[container]]
match = { name = "a" }
plugins.mount.config.allowed = ["xfs"]
[[container]] # whatever this one matches, the one above does
match = { name = "a", image = "b" }
plugins.mount.config.shift = false
[[container]]
match = { name = "c" }
plugins.mount.config.allowed = ["ext4"]
`)
	check(t, problems)
	var got []string
	for _, v := range policy.Variants() {
		if v.Plugin == "mount" {
			got = append(got, v.SettingsJSON)
		} else {
			t.Errorf("a variant of %s, which no container has", v.Plugin)
		}
	}
	want := []string{
		`{"allowed":["ext4"],"fuse":{},"shift":true}`,
		`{"allowed":["xfs"],"fuse":{},"shift":true}`,
		`{"allowed":["xfs"],"fuse":{},"shift":false}`,
	}
	if !slices.Equal(got, want) {
		t.Fatalf("variants %q, want %q", got, want)
	}
	last := policy.Variants()[2]
	for key, line := range map[string]int{"allowed": 10, "shift": 13, "fuse": 4} {
		p := last.Problem(&wire.Finding{Key: key, Text: "wrong", Warning: true})
		if p.Line != line || p.Column != 1 || !p.Warning || !strings.HasSuffix(p.Message, "wrong") {
			t.Errorf("problem of %s: %s", key, p)
		}
	}
}

// A plugin that only an annotation switches on is asked about its table.
func TestVariantsByAnnotation(t *testing.T) {
	policy, problems := resolve(t, `
[plugins.mknod]
enabled = false
[[container]]
match = { name = "a" }
accept_annotations = ["security.syscalls.intercept.mknod"]
`)
	check(t, problems)
	if got := policy.Variants(); len(got) != 1 || got[0].Plugin != "mknod" {
		t.Errorf("variants %+v", got)
	}
}
