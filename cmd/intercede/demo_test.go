package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/intercede/intercede/core/demo"
)

func TestDemoShowsTheDifference(t *testing.T) {
	s := newSite(t, both)
	r := intercede(t, "demo", "--config", s.config())
	if r.status != 0 || r.stderr != "" {
		t.Errorf("status %d: %s", r.status, r.stderr)
	}
	wantText(t, r.stdout, "mknod /tmp/null c 1 3", "mknod /dev/demo c 1 3", "EPERM (Operation not permitted)",
		"made, writable: crw-r--r-- 1, 3", "host: ", "limit: 64.0 MiB")
	for line := range strings.Lines(r.stdout) {
		if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 100 {
			t.Errorf("wider than 100 columns: %q", line)
		}
	}
}

func TestDemoJSON(t *testing.T) {
	s := newSite(t, "[plugins.sysinfo]\n")
	r := intercede(t, "demo", "--config", s.config(), "--json")
	var report demo.Report
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatalf("%v: %s%s", err, r.stdout, r.stderr)
	}
	if len(report.Cases) != 1 || report.Cases[0].Plugin != "sysinfo" || !report.Cases[0].OK || report.Cases[0].With.P50 <= 0 {
		t.Errorf("%+v", report)
	}
}

// A plugin that does not do what it is for makes the demo fail, with what came out instead.
func TestDemoFailsOnAnotherOutcome(t *testing.T) {
	s := newSite(t, "[plugins.mknod]\n[plugins.mknod.config]\ndevices = [\"c 1:5\"]\n")
	r := intercede(t, "demo", "--config", s.config())
	if r.status != exitFailure {
		t.Errorf("status %d", r.status)
	}
	wantText(t, r.stderr, `mknod /tmp/null c 1 3 with the plugin mknod: "EPERM (Operation not permitted)"`)
	wantText(t, r.stdout, "mknod /tmp/null c 1 3")
}

func TestDemoWithNothingToShow(t *testing.T) {
	s := newSite(t, "")
	r := intercede(t, "demo", "--config", s.config())
	if r.status != exitFailure {
		t.Errorf("status %d", r.status)
	}
	wantText(t, r.stderr, "[plugins.mknod]")
}

func TestDemoUsage(t *testing.T) {
	for _, args := range [][]string{{"now"}, {"--fast"}} {
		r := intercede(t, slices.Concat([]string{"demo"}, args)...)
		if r.status != exitUsage {
			t.Errorf("demo %v: status %d: %s", args, r.status, r.stderr)
		}
	}
	wantText(t, intercede(t, "demo", "--help").stdout, "intercede demo --json")
}
