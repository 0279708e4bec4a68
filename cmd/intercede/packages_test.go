//go:build runtimes

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// makePackages makes those of a version from sources, as the files N.deb and N.rpm of a new folder.
func makePackages(t *testing.T, sources, n string) (deb, rpm string) {
	t.Helper()
	out := t.TempDir()
	cmd := exec.Command("scripts/package", "0."+n+".0", out, "deb", "rpm")
	cmd.Dir = sources
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
	mustRun(t, cmd)
	for _, format := range []string{"deb", "rpm"} {
		made, err := filepath.Glob(out + "/*." + format)
		if err != nil || len(made) != 1 {
			t.Fatalf("packages %q, %v", made, err)
		}
		if err := os.Rename(made[0], filepath.Join(out, n+"."+format)); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(out, n+".deb"), filepath.Join(out, n+".rpm")
}

// packagePages are pages of docs that begin with a package, or with what one has installed.
var packagePages = []string{"install.md", "quickstart.md", "boot.md", "logs.md"}

// The packages are installed, upgraded and removed while a container runs, and are the same bytes wherever they are
// made.
func TestPackages(t *testing.T) {
	require(t, "dpkg", "rpm", "git")
	deb1, rpm1 := makePackages(t, "../..", "1")
	deb2, rpm2 := makePackages(t, "../..", "2")
	for format, files := range map[string][]string{"deb": {deb1, deb2}, "rpm": {rpm1, rpm2}} {
		t.Run(format, func(t *testing.T) {
			script := filepath.Join(t.TempDir(), "script")
			text := "format=" + format + "\n" + mustRead(t, "testdata/packages-test")
			if err := os.WriteFile(script, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			underSystemd(t, script, files...)
		})
	}
	for _, page := range packagePages {
		t.Run(page, func(t *testing.T) {
			require(t, "podman", "docker", "dockerd", "logrotate", "jq")
			blocks := readPage(t, "../../docs/"+page)
			script := filepath.Join(t.TempDir(), "script")
			text := mustRead(t, "testdata/tools") + mustRead(t, "testdata/booted") + pageScript(blocks)
			if err := os.WriteFile(script, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			checkOutput(t, blocks, underSystemd(t, script, deb1, deb2))
		})
	}
	t.Run("bytes", func(t *testing.T) {
		copied := t.TempDir()
		mustRun(t, exec.Command("sh", "-c", `cd ../.. && git ls-files -z | xargs -0 cp --parents -t "$1"`, "sh", copied))
		deb, rpm := makePackages(t, copied, "1")
		for first, second := range map[string]string{deb1: deb, rpm1: rpm} {
			if a, b := mustRead(t, first), mustRead(t, second); a != b {
				t.Errorf("%s has other bytes when it is made in another folder", filepath.Base(first))
			}
		}
	})
}

// TestInstall is `make install` for another prefix.
func TestInstall(t *testing.T) {
	dest := t.TempDir()
	install := func() {
		cmd := exec.Command("scripts/install", binaries, dest, "/opt/ic")
		cmd.Dir = "../.."
		cmd.Env = append(os.Environ(), "VERSION=0.1.0")
		mustRun(t, cmd)
	}
	install()
	config := dest + "/etc/intercede/config.toml"
	for file, want := range map[string]string{
		config: `plugin_dir = "/opt/ic/libexec/intercede"`,
		dest + "/opt/ic/lib/systemd/system/intercede.service":              "ExecStart=/opt/ic/bin/intercede serve",
		dest + "/opt/ic/lib/systemd/system/intercede-fallback.service":     "ExecStart=/opt/ic/bin/intercede keep",
		dest + "/opt/ic/share/bash-completion/completions/intercede":       "__start_intercede",
		dest + "/opt/ic/share/doc/intercede/docs/install.md":               "make install",
		dest + "/opt/ic/share/doc/intercede/plugins/mknod/README.md":       "## Syntax",
		dest + "/opt/ic/share/doc/intercede/deploy/grafana/intercede.json": "intercede_up",
		dest + "/opt/ic/share/zsh/vendor-completions/_intercede":           "#compdef intercede",
		dest + "/opt/ic/share/fish/vendor_completions.d/intercede.fish":    "intercede",
	} {
		if !strings.Contains(mustRead(t, file), want) {
			t.Errorf("%s does not have %q", file, want)
		}
	}
	if target, err := os.Readlink(dest + "/opt/ic/bin/intercede-runc"); target != "intercede" {
		t.Errorf("intercede-runc is %q, %v", target, err)
	}
	if err := os.WriteFile(config, []byte("# mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	install()
	if text := mustRead(t, config); text != "# mine" {
		t.Errorf("a config that was there is now %q", text)
	}
}
