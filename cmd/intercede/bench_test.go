package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/bench"
)

// pluginFolder has the plugins under test, and the one that bench measures.
func pluginFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ic")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, name := range []string{"intercede-plugin-mknod", "intercede-plugin-sysinfo"} {
		if err := os.Symlink(filepath.Join(binaries, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	noop, err := filepath.Rel(binaries, filepath.Join(dir, "intercede-plugin-noop"))
	if err != nil {
		t.Fatal(err)
	}
	if err := goBuild(noop, "../intercede-plugin-noop"); err != nil {
		t.Fatal(err)
	}
	return dir
}

func runBenchJSON(t *testing.T, args ...string) bench.Report {
	t.Helper()
	r := intercede(t, append([]string{"bench", "--json"}, args...)...)
	if r.status != 0 || r.stderr != "" {
		t.Fatalf("status %d: %s", r.status, r.stderr)
	}
	var report bench.Report
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatalf("%v: %s", err, r.stdout)
	}
	return report
}

func TestBenchMeasuresEveryRow(t *testing.T) {
	s := newSite(t, both)
	report := runBenchJSON(t, "--config", s.config(), "--plugin-dir", pluginFolder(t), "--calls", "150", "--listeners", "20", "--exec")
	var keys []string
	for _, row := range report.Rows {
		keys = append(keys, row.Key)
	}
	want := "bare noop noop-grpc sysinfo mknod exec-sysinfo exec-mknod exec-setxattr exec-sched " +
		"native-getppid native-sysinfo native-mknod native-setxattr native-sched native-bpf"
	if got := strings.Join(keys, " "); got != want || len(report.LeftOut) != 4 {
		t.Errorf("rows %s, want %s; left out %+v", got, want, report.LeftOut)
	}
	if report.Unit != "us" || report.Calls != 150 || report.Kernel == "" {
		t.Errorf("unit, calls, kernel: %+v", report)
	}
	for _, row := range report.Rows {
		if row.P50 <= 0 || row.P90 < row.P50 || row.P99 < row.P90 || row.Ratio <= 0 || row.Rare <= 0 {
			t.Errorf("no distribution: %+v", row)
		}
	}
	if b := report.Blocked; b == nil || b.Alone <= 0 || b.Same <= 0 || b.Other <= 0 {
		t.Errorf("beside slow calls: %+v", b)
	}
	for _, load := range report.Throughput {
		if load.PerSecond <= 0 {
			t.Errorf("no throughput: %+v", load)
		}
	}
	if s := report.Scale; len(report.Throughput) == 0 || s == nil || s.Listeners != 20 || s.Attach <= 0 || len(s.Calls) != 2 || len(s.Processes) != 3 {
		t.Errorf("scale: %+v", s)
	}
}

// benchstat takes nothing but lines of this form.
func TestBenchPrintsBenchmarks(t *testing.T) {
	s := newSite(t, "[plugins.sysinfo]\n")
	r := intercede(t, "bench", "--benchmarks", "--config", s.config(), "--plugin-dir", binaries, "--calls", "3")
	if r.status != 0 {
		t.Fatalf("status %d: %s", r.status, r.stderr)
	}
	if line := regexp.MustCompile(`(?m)^BenchmarkCall/sysinfo-\d+\t3\t\d+ ns/op$`); !line.MatchString(r.stdout) {
		t.Errorf("got %s", r.stdout)
	}
}

// Nothing but the kernel is needed: what is not there is left out, and said.
func TestBenchLeavesOutWhatIsMissing(t *testing.T) {
	s := newSite(t, "[plugins.sysinfo]\n")
	report := runBenchJSON(t, "--config", s.config(), "--calls", "1", "--listeners", "0")
	if len(report.Rows) != 10 || len(report.LeftOut) != 6 {
		t.Fatalf("want 10 rows, 6 left out: %+v", report)
	}
	wantText(t, report.LeftOut[0].Reason, "intercede-plugin-noop")
	wantText(t, report.LeftOut[2].Reason, "[plugins.mknod]")
}

// A rate of the config is no cost of a call: at one call per second this would not end.
func TestBenchIgnoresTheRate(t *testing.T) {
	s := newSite(t, "[plugins.sysinfo]\n")
	text := "[broker]\nrate = 1\nburst = 1\n[plugins.sysinfo]\n"
	if err := os.WriteFile(s.config(), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	runBenchJSON(t, "--config", s.config(), "--plugin-dir", binaries, "--calls", "1", "--listeners", "1")
}

func TestBenchUsage(t *testing.T) {
	for name, args := range map[string][]string{
		"no calls":     {"--calls", "0"},
		"listeners":    {"--listeners", "-1"},
		"too many":     {"--listeners", "1000000"},
		"two formats":  {"--json", "--benchmarks"},
		"an argument":  {"now"},
		"unknown flag": {"--fast"},
	} {
		t.Run(name, func(t *testing.T) {
			r := intercede(t, append([]string{"bench"}, args...)...)
			if r.status != cli.ExitUsage {
				t.Errorf("status %d: %s", r.status, r.stderr)
			}
		})
	}
	wantText(t, intercede(t, "bench", "--help").stdout, "intercede bench --calls 20000")
}

func TestBenchAndDemoNeedAConfig(t *testing.T) {
	newSite(t, both) // needs root
	for _, command := range []string{"bench", "demo"} {
		r := intercede(t, command, "--config", "/no/such/file")
		if r.status != cli.ExitFailure {
			t.Errorf("%s: status %d", command, r.status)
		}
		wantText(t, r.stderr, "--config")
	}
}
