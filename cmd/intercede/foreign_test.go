package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/intercede/intercede/cmd/internal/cli"
)

// TestCheckForeign has `check` find plugins that this intercede cannot serve, and say what to do.
func TestCheckForeign(t *testing.T) {
	s := newSite(t, "")
	if err := goBuild("foreign", "./testdata/foreign"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(binaries + "/foreign") })
	for name, want := range map[string][]string{
		"protocols": {"speaks version 2 of the plugin protocol, and this intercede version 1", "upgrade intercede"},
		"handshake": {"speaks version 2 of the plugin protocol, and this intercede version 1", "upgrade intercede"},
		"needs":     {`needs intercede ≥ 9.0.0: this one lacks the feature "telepathy"`, "upgrade intercede"},
		"field":     {"aura", "if it was made for a newer one, install that"},
		"library":   {"ended before it served", "libfoo.so.1: not found"},
	} {
		t.Run(name, func(t *testing.T) {
			path := s.dir + "/intercede-plugin-" + name
			if err := os.Link(binaries+"/foreign", path); err != nil {
				t.Fatal(err)
			}
			s.write(t, fmt.Sprintf("[plugins.%s]\npath = %q\n", name, path))
			r := intercede(t, "check", "--config", s.config())
			if r.status != cli.ExitFailure {
				t.Errorf("status %d", r.status)
			}
			wantText(t, r.stderr, append(want, path, "plugins."+name)...)
		})
	}
}
