package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/require"
	"golang.org/x/sys/unix"
)

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, text []byte, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := []byte("[broker]\nplugin_dir = \"bin\"\n")
	for name, test := range map[string]struct {
		path string
		want []string
	}{
		"good":    {file("good", good, 0o644), nil},
		"private": {file("private", good, 0o600), nil},
		"group-writable": {file("group", good, 0o664),
			[]string{"group: mode 0664 lets others than its owner decide what runs as root: chmod go-w group"}},
		"world-writable, and a problem": {file("world", []byte("x = 1\n"), 0o606), []string{
			"world: mode 0606 lets others than its owner decide what runs as root: chmod go-w world",
			"world:1:1: x: unknown key; accepted: broker, plugins, oci_runtime, audit, container"}},
		"empty and group-writable": {file("empty", nil, 0o620), []string{
			"empty: mode 0620 lets others than its owner decide what runs as root: chmod go-w empty"}},
		"missing":   {"missing", []string{"missing: there is no such file: name the config file with --config"}},
		"directory": {".", []string{".: cannot be read: not a regular file"}},
		"fifo":      {fifo(t, filepath.Join(dir, "fifo")), []string{"fifo: cannot be read: not a regular file"}},
		"largest":   {file("largest", bytes.Repeat([]byte("\n"), maxSize), 0o600), nil},
		"too large": {file("large", bytes.Repeat([]byte("\n"), maxSize+1), 0o600), []string{"large: cannot be read: larger than 1048576 bytes"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(dir)
			config, problems := Load(filepath.Base(test.path), Options{})
			check(t, problems, test.want...)
			if len(test.want) == 0 && config == nil {
				t.Error("no config")
			}
			if name == "good" && config.Broker.PluginDir != filepath.Join(dir, "bin") {
				t.Errorf("plugin_dir %s", config.Broker.PluginDir)
			}
		})
	}
}

// Who can change the file, or put another in its place, decides what runs as root.
func TestLoadOwner(t *testing.T) {
	require.Root(t)
	for name, test := range map[string]struct {
		change func(folder, file string) error
		want   string
	}{
		"another user's file":   {func(_, file string) error { return os.Chown(file, 1000, 0) }, "it belongs to user 1000, who decides"},
		"another user's folder": {func(folder, _ string) error { return os.Chown(folder, 1000, 0) }, "others than root can replace it"},
		"open folder":           {func(folder, _ string) error { return os.Chmod(folder, 0o777) }, "others than root can replace it"},
		"sticky folder":         {func(folder, _ string) error { return os.Chmod(folder, 0o777|os.ModeSticky) }, ""},
		"another user's link": {func(folder, file string) error {
			theirs := filepath.Join(folder, "theirs")
			return errors.Join(os.Mkdir(theirs, 0o755), os.Rename(file, filepath.Join(folder, "real")),
				os.Symlink("../real", filepath.Join(theirs, "link")), os.Symlink("theirs/link", file), os.Chown(theirs, 1000, 0))
		}, "others than root can replace it"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			file := filepath.Join(folder, "config.toml")
			if err := errors.Join(os.WriteFile(file, []byte("[broker]\n"), 0o644), test.change(folder, file)); err != nil {
				t.Fatal(err)
			}
			_, problems := Load(file, Options{})
			if said := problems.Error(); test.want == "" && said != "" || !strings.Contains(said, test.want) {
				t.Errorf("problems %q, want %q", said, test.want)
			}
		})
	}
}

func fifo(t *testing.T, path string) string {
	t.Helper()
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
