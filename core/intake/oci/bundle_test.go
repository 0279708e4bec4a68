package oci

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// writeFile writes a file with the folders above it, and returns its folder.
func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(path)
}

func TestCgroupsPath(t *testing.T) {
	for text, want := range map[string]string{
		`{"linux":{"cgroupsPath":"/docker/a"},"x":1}`: "/docker/a",
		`{"linux":{}}`: "",
		`{`:            "",
	} {
		bundle := writeFile(t, filepath.Join(t.TempDir(), "config.json"), text)
		if got := ReadBundle(bundle, "a"); got != (Bundle{CgroupsPath: want}) {
			t.Errorf("of %s: %q, want %q", text, got, want)
		}
	}
	for _, bundle := range []string{"", "relative", t.TempDir()} {
		if got := ReadBundle(bundle, "a"); got != (Bundle{}) {
			t.Errorf("of bundle %q: %q", bundle, got)
		}
	}
}

func TestNamesOfPodman(t *testing.T) {
	storage := t.TempDir()
	bundle := writeFile(t, filepath.Join(storage, "c1", "userdata", "config.json"), `{"linux":{"cgroupsPath":"/c1"}}`)
	const list = `[{"id":"c0","names":["other"],"flags":{"x":[]}},
		{"id":"c1","names":["web"],"metadata":"{\"image-name\":\"localhost/box:latest\",\"name\":\"web\"}"}]`
	for _, file := range []string{"containers.json", "volatile-containers.json"} {
		path := filepath.Join(storage, file)
		writeFile(t, path, list)
		if got := ReadBundle(bundle, "c1"); got != (Bundle{"/c1", "web", "localhost/box:latest"}) {
			t.Errorf("%s: %+v", file, got)
		}
		if got := ReadBundle(bundle, "c2"); got.Name != "" {
			t.Errorf("%s: another container is %+v", file, got)
		}
		os.Remove(path)
	}
	for _, bad := range []string{"", "{}", "[", `[{"id":"c1"}]`, `[{"id":"c1","metadata":"{"}]`, `[{"id":1}]`, `["c1"]`,
		`[{"id":"c1","names":["` + strings.Repeat("x", 2000) + `"]}]`} {
		writeFile(t, filepath.Join(storage, "containers.json"), bad)
		if got := ReadBundle(bundle, "c1"); got != (Bundle{CgroupsPath: "/c1"}) {
			t.Errorf("of %.40q: %+v", bad, got)
		}
	}
}

func TestNamesOfDocker(t *testing.T) {
	state := writeFile(t, filepath.Join(t.TempDir(), "containers", "c1", "config.v2.json"), `{"Name":"/web","Config":{"Image":"debian:12"}}`)
	bundle := writeFile(t, filepath.Join(t.TempDir(), "config.json"),
		`{"mounts":[{"source":"proc"},{"source":"`+state+`/hostname"},{"source":"/other/hostname"}]}`)
	if got := ReadBundle(bundle, "c1"); got != (Bundle{Name: "web", Image: "debian:12"}) {
		t.Errorf("%+v", got)
	}
	if got := ReadBundle(bundle, "c2"); got != (Bundle{}) {
		t.Errorf("another container: %+v", got)
	}
}
