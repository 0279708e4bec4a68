package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

// What is installed is looked at by the config, and each finding names what is wrong.
func TestInstallProbes(t *testing.T) {
	sdktest.RequireRoot(t)
	dir := t.TempDir()
	path, plugins := filepath.Join(dir, "config.toml"), filepath.Join(dir, "plugins")
	find := func(name string) Check {
		t.Helper()
		for _, p := range installProbes(path) {
			if p.name == name {
				return p.check(t.Context())
			}
		}
		t.Fatalf("no probe %q", name)
		return Check{}
	}
	wants := func(name string, state State, text string) {
		t.Helper()
		if c := find(name); c.State != state || !strings.Contains(c.Found, text) || c.Means == "" {
			t.Errorf("%s: %+v, want %s and %q", name, c, state, text)
		}
	}
	for _, name := range []string{"config", "daemon", "plugin folder", "OCI runtime"} {
		wants(name, Degraded, "there is no such file")
	}
	write := func(runtime string) {
		t.Helper()
		text := fmt.Sprintf("[broker]\ncontrol = %q\nplugin_dir = %q\n[oci_runtime]\nruntime = %q\n", dir+"/s", plugins, runtime)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("/bin/true")
	wants("config", OK, path)
	wants("daemon", Degraded, "intercede serve")
	wants("plugin folder", Degraded, "no such file")
	wants("OCI runtime", OK, "/bin/true")
	write("/bin/false")
	wants("OCI runtime", Degraded, "is it an OCI runtime?")
	if err := os.Mkdir(plugins, 0o755); err != nil {
		t.Fatal(err)
	}
	wants("plugin folder", Degraded, "no plugin in it")
	if err := os.WriteFile(filepath.Join(plugins, "intercede-plugin-x"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	wants("plugin folder", OK, ": x")
	if err := os.Chown(plugins, 1000, 0); err != nil {
		t.Fatal(err)
	}
	wants("plugin folder", Degraded, "owned by user 1000")
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	wants("config", Degraded, "chmod go-w")
}

func TestSubordinate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "subuid")
	try := trySubordinate(path)
	if _, err := try(t.Context()); err == nil {
		t.Error("no file is well")
	}
	for text, ok := range map[string]bool{"root:1:2\n": false, "root:1:2\ncontainers:100000:65536\n": true, "xcontainers:1:2\n": false} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := try(t.Context()); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}
