package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"
	"unicode/utf8"

	"github.com/intercede/intercede/cmd/intercede-bench/caller"
	"golang.org/x/sys/unix"
)

// Report is what was measured. Times are in µs.
type Report struct {
	Unit       string       `json:"unit"`   // of the times: "us"
	Calls      int          `json:"calls"`  // of each row
	Kernel     string       `json:"kernel"` // its release
	Rows       []Row        `json:"rows"`   // the first is what the others are compared with
	Blocked    *Blocked     `json:"blocked,omitempty"`
	Throughput []Throughput `json:"throughput,omitempty"`
	Scale      *Scale       `json:"scale,omitempty"`
	LeftOut    []LeftOut    `json:"left_out"`
}

// Row is how long a call takes.
type Row struct {
	Key         string  `json:"key"`
	Name        string  `json:"name"`
	P50         float64 `json:"p50"`
	P90         float64 `json:"p90"`
	P99         float64 `json:"p99"`
	Ratio       float64 `json:"ratio"`          // of P50 to the first row's
	Rare        float64 `json:"rare,omitempty"` // P50 of calls that come after a pause
	PluginShare float64 `json:"plugin_share"`   // of the time between receipt and answer, while plugins had the call; 0: none had it
	rounds      []float64
}

// Blocked is the p50 of a call that is answered at once, beside slow ones.
type Blocked struct {
	SlowCalls int     `json:"slow_calls"` // each of a second
	Alone     float64 `json:"alone"`
	Same      float64 `json:"same_container"`
	Other     float64 `json:"other_container"`
}

// Throughput is how many calls a second are answered at once by the plugin noop.
type Throughput struct {
	Containers int     `json:"containers"`
	Callers    int     `json:"callers"` // in each
	PerSecond  float64 `json:"per_second"`
}

// Scale is what many attached listeners cost.
type Scale struct {
	Listeners   int          `json:"listeners"`
	Attach      float64      `json:"attach"` // time for one
	Calls       []ScaledCall `json:"calls"`
	IdleSeconds float64      `json:"idle_seconds"`
	Processes   []Process    `json:"processes"`
}

// ScaledCall is a row's p50 without and with the other listeners.
type ScaledCall struct {
	Name  string  `json:"name"`
	Alone float64 `json:"alone"`
	Among float64 `json:"among"`
	Ratio float64 `json:"ratio"`
}

// Process is the broker or a plugin, with all listeners attached.
type Process struct {
	Name    string  `json:"name"`
	RSS     int64   `json:"rss"` // bytes
	WakeUps int64   `json:"wake_ups"`
	CPU     float64 `json:"cpu"` // both in IdleSeconds in which nothing happened
	pid     int
}

// LeftOut is a row that could not be measured.
type LeftOut struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

func (b *bench) report() (*Report, error) {
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return nil, fmt.Errorf("uname: %w", err)
	}
	r := &Report{Unit: "us", Calls: b.options.Calls, Kernel: unix.ByteSliceToString(uname.Release[:]), Rows: []Row{}, LeftOut: []LeftOut{}}
	r.LeftOut = append(r.LeftOut, b.leftOut...)
	for _, measured := range b.rows {
		r.add(measured)
		measured.rounds = nil // of this process, whose memory is measured as the broker's
	}
	return r, nil
}

func (r *Report) add(measured *row) {
	durations := measured.durations()
	row := Row{
		Key:  measured.key,
		Name: measured.name,
		P50:  caller.Microseconds(durations.Percentile(50)),
		P90:  caller.Microseconds(durations.Percentile(90)),
		P99:  caller.Microseconds(durations.Percentile(99)),
	}
	if row.Ratio = 1; len(r.Rows) > 0 {
		row.Ratio = row.P50 / r.Rows[0].P50
	}
	measured.share.mu.Lock()
	defer measured.share.mu.Unlock()
	if measured.share.whole > 0 {
		row.PluginShare = measured.share.plugin.Seconds() / measured.share.whole.Seconds()
	}
	for _, round := range measured.rounds {
		row.rounds = append(row.rounds, float64(round.Percentile(50).Nanoseconds()))
	}
	r.Rows = append(r.Rows, row)
}

// WriteJSON writes the report as one object.
func (r *Report) WriteJSON(out io.Writer) error { return json.NewEncoder(out).Encode(r) }

// WriteBenchmarks writes the rows as go test writes benchmarks, a line with the p50 of each round: what benchstat
// compares.
func (r *Report) WriteBenchmarks(out io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "goos: %s\ngoarch: %s\npkg: github.com/intercede/intercede/cmd/intercede-bench/bench\n", runtime.GOOS, runtime.GOARCH)
	for _, row := range r.Rows {
		for _, p50 := range row.rounds {
			fmt.Fprintf(&text, "BenchmarkCall/%s-%d\t%d\t%.0f ns/op\n", row.Key, runtime.NumCPU(), min(r.Calls, roundCalls), p50)
		}
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// WriteTable writes the report for people.
func (r *Report) WriteTable(out io.Writer) error {
	var text strings.Builder
	r.writeRows(&text)
	if r.Blocked != nil {
		r.Blocked.write(&text)
	}
	if len(r.Throughput) > 0 {
		writeThroughput(&text, r.Throughput)
	}
	if r.Scale != nil {
		r.Scale.write(&text)
	}
	for _, l := range r.LeftOut {
		fmt.Fprintf(&text, "\nLeft out: %s: %s.", l.Name, l.Reason)
	}
	if len(r.LeftOut) > 0 {
		text.WriteByte('\n')
	}
	_, err := io.WriteString(out, text.String())
	return err
}

func (r *Report) writeRows(text *strings.Builder) {
	width := 0
	for _, row := range r.Rows {
		width = max(width, utf8.RuneCountInString(row.Name))
	}
	fmt.Fprintf(text, "How long a system call takes its caller, in µs: %d calls each, Linux %s.\n\n", r.Calls, r.Kernel)
	fmt.Fprintf(text, "%-*s  %8s  %8s  %8s  %8s  %8s  %8s\n", width, "", "p50", "p90", "p99", "ratio", "plugin", "rare")
	for _, row := range r.Rows {
		share, rare := "", ""
		if row.PluginShare > 0 {
			share = fmt.Sprintf("%.0f %%", 100*row.PluginShare)
		}
		if row.Rare > 0 {
			rare = fmt.Sprintf("%.1f", row.Rare)
		}
		line := fmt.Sprintf("%-*s  %8.1f  %8.1f  %8.1f  %8.2f  %8s  %8s", width, row.Name, row.P50, row.P90, row.P99, row.Ratio, share, rare)
		text.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	fmt.Fprintf(text, `
The ratio is of p50 to that of the bare supervisor: the kernel's own round trip, with one thread that lets
every call go on. The broker cannot be faster. The plugin's share is of the time between receipt and answer: it
has the call, or the message is on its way. Rare is the p50 of calls that come after %d ms without any.
`, rarePause.Milliseconds())
}

func (b *Blocked) write(text *strings.Builder) {
	fmt.Fprintf(text, "\nThe p50 of a call that is answered at once, in µs: %.1f; while %d calls of a second each are under way\n"+
		"in the same container: %.1f (%.2f times), in another: %.1f (%.2f times).\n",
		b.Alone, b.SlowCalls, b.Same, b.Same/b.Alone, b.Other, b.Other/b.Alone)
}

func writeThroughput(text *strings.Builder, loads []Throughput) {
	fmt.Fprintf(text, "\nCalls that a plugin answers at once, %d processors:\n\n%10s  %8s  %10s\n", runtime.NumCPU(), "containers", "callers", "per second")
	for _, load := range loads {
		fmt.Fprintf(text, "%10d  %8d  %10.0f\n", load.Containers, load.Containers*load.Callers, load.PerSecond)
	}
}

func (s *Scale) write(text *strings.Builder) {
	fmt.Fprintf(text, "\n%d listeners attached, each as a container: %.0f µs for one.\n\n%-40s  %8s  %8s  %8s\n", s.Listeners, s.Attach, "p50, in µs", "alone", "among", "ratio")
	for _, c := range s.Calls {
		fmt.Fprintf(text, "%-40s  %8.1f  %8.1f  %8.2f\n", c.Name, c.Alone, c.Among, c.Ratio)
	}
	fmt.Fprintf(text, "\n%-40s  %8s  %8s  %8s\n", fmt.Sprintf("with them, %.0f s in which nothing happens", s.IdleSeconds), "RSS, MiB", "wake-ups", "CPU, µs")
	for _, p := range s.Processes {
		fmt.Fprintf(text, "%-40s  %8.1f  %8d  %8.0f\n", p.Name, float64(p.RSS)/(1<<20), p.WakeUps, p.CPU)
	}
}
