package demo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/intercede/intercede/cmd/intercede-bench/disk"
)

func TestCheck(t *testing.T) {
	shown := []example{{name: "call", plugin: "p", without: "refused", with: "done"}}
	for _, test := range []struct {
		name, without, with, want string
	}{
		{"as it should be", "refused", "done", ""},
		{"plugin without effect", "refused", "refused", `call with the plugin p: "refused", want "done"`},
		{"nothing to gain", "done", "done", `call without interception: "done", want "refused"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			report := newReport(shown, []Outcome{{Result: test.without}}, []Outcome{{Result: test.with}})
			err := report.Check()
			if (err == nil) != (test.want == "") || err != nil && err.Error() != test.want {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if report.Cases[0].OK != (err == nil) {
				t.Errorf("OK is %v", report.Cases[0].OK)
			}
		})
	}
}

// Every example fits, with costs of five digits.
func TestTableIsNarrow(t *testing.T) {
	shown := examples(disk.Disk{Image: "/var/tmp/image", Minor: 7})
	var without, with []Outcome
	for _, e := range shown {
		without = append(without, Outcome{e.without, 0.9})
		with = append(with, Outcome{e.with, 12345})
	}
	var table strings.Builder
	if err := newReport(shown, without, with).WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(table.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func TestInstalled(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "intercede-plugin-sched"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	settings := plugins(disk.Disk{Minor: 7})
	found := installed(dir, settings)
	if len(found) != len(settings) || !found["sched"] || found["mount"] {
		t.Errorf("found %v", found)
	}
	for _, e := range examples(disk.Disk{Minor: 7}) {
		if _, known := settings[e.plugin]; !known {
			t.Errorf("%s: plugin %s has no settings", e.name, e.plugin)
		}
	}
	config := filepath.Join(dir, "config.toml")
	if err := writeConfig(config, "/plugins", found, settings); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(config)
	want := "[broker]\nplugin_dir = \"/plugins\"\n[plugins.sched]\ngrant = \"manifest\"\n[plugins.sched.config]\n\n"
	if string(text) != want || err != nil {
		t.Errorf("config %q, %v", text, err)
	}
}

func TestTexts(t *testing.T) {
	for _, test := range []struct{ name, got, want string }{
		{"bytes", binarySize(1023), "1023.0 B"},
		{"mebibytes", binarySize(memoryLimit), "64.0 MiB"},
		{"gibibytes", binarySize(24 << 30), "24.0 GiB"},
		{"more than there are units", binarySize(1 << 63), "8192.0 PiB"},
		{"short", microseconds(0.25), "0.2"},
		{"long", microseconds(249.7), "250"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.got != test.want {
				t.Errorf("got %q, want %q", test.got, test.want)
			}
		})
	}
}
