package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Report is what came of the examples.
type Report struct {
	Unit        string `json:"unit"`         // of P50: "us"
	MemoryLimit int64  `json:"memory_limit"` // of both containers, in bytes
	Cases       []Case `json:"cases"`
}

// Case is one example in both containers.
type Case struct {
	Name    string  `json:"name"`
	Plugin  string  `json:"plugin"`
	Without Outcome `json:"without"`
	With    Outcome `json:"with"`
	OK      bool    `json:"ok"` // both results are what they should be

	wantWithout, wantWith string
}

// Outcome is what came of a call, and what it cost.
type Outcome struct {
	Result string  `json:"result"`
	P50    float64 `json:"p50"`
}

func newReport(shown []example, without, with []Outcome) *Report {
	r := &Report{Unit: "us", MemoryLimit: memoryLimit}
	for i, e := range shown {
		r.Cases = append(r.Cases, Case{
			Name: e.name, Plugin: e.plugin, Without: without[i], With: with[i],
			OK:          without[i].Result == e.without && with[i].Result == e.with,
			wantWithout: e.without, wantWith: e.with,
		})
	}
	return r
}

// Check says what did not come out as it should.
func (r *Report) Check() error {
	var faults []error
	for _, c := range r.Cases {
		if c.Without.Result != c.wantWithout {
			faults = append(faults, fmt.Errorf("%s without interception: %q, want %q", c.Name, c.Without.Result, c.wantWithout))
		}
		if c.With.Result != c.wantWith {
			faults = append(faults, fmt.Errorf("%s with the plugin %s: %q, want %q", c.Name, c.Plugin, c.With.Result, c.wantWith))
		}
	}
	return errors.Join(faults...)
}

// WriteJSON writes the report as one object.
func (r *Report) WriteJSON(out io.Writer) error { return json.NewEncoder(out).Encode(r) }

// WriteTable writes the report for people, in 100 columns.
func (r *Report) WriteTable(out io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "Root makes the same calls in two unprivileged containers, each limited to %s of memory.\n", binarySize(uint64(r.MemoryLimit)))
	fmt.Fprintf(&text, "In the first the kernel decides alone; in the second intercede answers what its plugins take.\n\n")
	writeRows(&text, r.table())
	fmt.Fprintf(&text, "\nµs is what one call costs its caller there (median of %d).\n", measuredCalls)
	_, err := io.WriteString(out, text.String())
	return err
}

// row is a line of the table: the call, and what came of it without and with interception.
type row struct {
	call                string
	without, withoutP50 string
	with, withP50       string
}

func (r *Report) table() []row {
	rows := []row{{"CALL", "WITHOUT INTERCEDE", "µs", "WITH INTERCEDE", "µs"}}
	for _, c := range r.Cases {
		rows = append(rows, row{c.Name, c.Without.Result, microseconds(c.Without.P50), c.With.Result, microseconds(c.With.P50)})
	}
	return rows
}

// writeRows aligns the rows' cells, numbers to the right.
func writeRows(out *strings.Builder, rows []row) {
	var width struct{ call, without, withoutP50, with, withP50 int }
	for _, r := range rows {
		widen(&width.call, r.call)
		widen(&width.without, r.without)
		widen(&width.withoutP50, r.withoutP50)
		widen(&width.with, r.with)
		widen(&width.withP50, r.withP50)
	}
	for _, r := range rows {
		fmt.Fprintf(out, "%-*s  %-*s  %*s  %-*s  %*s\n", width.call, r.call,
			width.without, r.without, width.withoutP50, r.withoutP50, width.with, r.with, width.withP50, r.withP50)
	}
}

func widen(width *int, cell string) { *width = max(*width, utf8.RuneCountInString(cell)) }
