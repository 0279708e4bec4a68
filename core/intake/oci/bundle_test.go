package oci

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCgroupsPath(t *testing.T) {
	for text, want := range map[string]string{
		`{"linux":{"cgroupsPath":"/docker/a"},"x":1}`: "/docker/a",
		`{"linux":{}}`: "",
		`{`:            "",
	} {
		bundle := t.TempDir()
		if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := CgroupsPath(bundle); got != want {
			t.Errorf("of %s: %q, want %q", text, got, want)
		}
	}
	for _, bundle := range []string{"", "relative", t.TempDir()} {
		if got := CgroupsPath(bundle); got != "" {
			t.Errorf("of bundle %q: %q", bundle, got)
		}
	}
}
