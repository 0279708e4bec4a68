package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/intercede/intercede/cmd/intercede-bench/bench"
)

func runBenchJSON(t *testing.T, args ...string) bench.Report {
	t.Helper()
	r := intercedeBench(t, append([]string{"--json"}, args...)...)
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
	config := writeConfig(t, "[plugins.mknod]\n[plugins.sysinfo]\n")
	report := runBenchJSON(t, "--config", config, "--plugin-dir", pluginFolder(t, "noop", "mknod", "sysinfo"),
		"--calls", "150", "--listeners", "20", "--exec")
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
	if len(report.Throughput) == 0 {
		t.Error("no throughput")
	}
	if s := report.Scale; s == nil || s.Listeners != 20 || s.Attach <= 0 || len(s.Calls) != 2 || len(s.Processes) != 3 {
		t.Errorf("scale: %+v", s)
	}
}

// benchstat takes nothing but lines of this form.
func TestBenchPrintsBenchmarks(t *testing.T) {
	config := writeConfig(t, "[plugins.sysinfo]\n")
	r := intercedeBench(t, "--benchmarks", "--config", config, "--plugin-dir", binaries, "--calls", "3")
	if r.status != 0 {
		t.Fatalf("status %d: %s", r.status, r.stderr)
	}
	if line := regexp.MustCompile(`(?m)^BenchmarkCall/sysinfo-\d+\t3\t\d+ ns/op$`); !line.MatchString(r.stdout) {
		t.Errorf("got %s", r.stdout)
	}
}

// Nothing but the kernel is needed: what is not there is left out, and said.
func TestBenchLeavesOutWhatIsMissing(t *testing.T) {
	config := writeConfig(t, "[plugins.sysinfo]\n")
	report := runBenchJSON(t, "--config", config, "--plugin-dir", pluginFolder(t, "mknod", "mount", "sysinfo"),
		"--calls", "1", "--listeners", "0")
	if len(report.Rows) != 10 || len(report.LeftOut) != 6 {
		t.Fatalf("want 10 rows, 6 left out: %+v", report)
	}
	wantText(t, report.LeftOut[0].Reason, "intercede-plugin-noop")
	wantText(t, report.LeftOut[2].Reason, "[plugins.mknod]")
}

// A rate of the config is not a cost of a call: at one call per second this would not end.
func TestBenchIgnoresTheRate(t *testing.T) {
	config := writeConfig(t, "[broker]\nrate = 1\nburst = 1\n[plugins.sysinfo]\n")
	runBenchJSON(t, "--config", config, "--plugin-dir", binaries, "--calls", "1", "--listeners", "1")
}
