package config

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

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

func fifo(t *testing.T, path string) string {
	t.Helper()
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
