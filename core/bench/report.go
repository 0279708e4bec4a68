package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/intercede/intercede/core/bench/caller"
	"golang.org/x/sys/unix"
)

// Report is what was measured.
type Report struct {
	Unit    string    `json:"unit"`   // of the durations: "us"
	Calls   int       `json:"calls"`  // of each row
	Kernel  string    `json:"kernel"` // its release
	Rows    []Row     `json:"rows"`   // the first is what the others are compared with
	LeftOut []LeftOut `json:"left_out"`
}

// Row is how long a call takes.
type Row struct {
	Name  string  `json:"name"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	Ratio float64 `json:"ratio"` // of P50 to the first row's
}

// LeftOut is a row that could not be measured.
type LeftOut struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

func (b *bench) report(calls int) (*Report, error) {
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return nil, fmt.Errorf("uname: %w", err)
	}
	r := &Report{Unit: "us", Calls: calls, Kernel: unix.ByteSliceToString(uname.Release[:]), Rows: []Row{}, LeftOut: []LeftOut{}}
	r.LeftOut = append(r.LeftOut, b.leftOut...)
	for _, measured := range b.rows {
		r.add(measured.name, measured.durations)
	}
	return r, nil
}

func (r *Report) add(name string, durations caller.Durations) {
	row := Row{
		Name: name,
		P50:  caller.Microseconds(durations.Percentile(50)),
		P90:  caller.Microseconds(durations.Percentile(90)),
		P99:  caller.Microseconds(durations.Percentile(99)),
	}
	if row.Ratio = 1; len(r.Rows) > 0 {
		row.Ratio = row.P50 / r.Rows[0].P50
	}
	r.Rows = append(r.Rows, row)
}

// WriteJSON writes the report as one object.
func (r *Report) WriteJSON(out io.Writer) error { return json.NewEncoder(out).Encode(r) }

// WriteTable writes the report for people.
func (r *Report) WriteTable(out io.Writer) error {
	width := 0
	for _, row := range r.Rows {
		width = max(width, utf8.RuneCountInString(row.Name))
	}
	var text strings.Builder
	fmt.Fprintf(&text, "How long a system call takes its caller, in µs: %d calls each, Linux %s.\n\n", r.Calls, r.Kernel)
	fmt.Fprintf(&text, "%-*s  %8s  %8s  %8s  %8s\n", width, "", "p50", "p90", "p99", "ratio")
	for _, row := range r.Rows {
		fmt.Fprintf(&text, "%-*s  %8.1f  %8.1f  %8.1f  %8.2f\n", width, row.Name, row.P50, row.P90, row.P99, row.Ratio)
	}
	fmt.Fprintf(&text, "\nThe ratio is of p50 to that of the bare supervisor: the kernel's own round trip, with one thread that lets\nevery call go on. The broker cannot be faster.\n")
	for _, l := range r.LeftOut {
		fmt.Fprintf(&text, "Left out: %s: %s.\n", l.Name, l.Reason)
	}
	_, err := io.WriteString(out, text.String())
	return err
}
