package top

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Column is one of a table.
type Column struct {
	Title   string
	width   int // 0: what the others leave
	text    func(*Row) string
	compare func(a, b *Row) int
	largest bool // sorting by it has the largest first
}

// number is a column of numbers.
func number(title string, width int, of func(*Row) float64, text func(*Row) string) Column {
	return Column{title, width, text, func(a, b *Row) int { return cmp.Compare(of(a), of(b)) }, true}
}

func count(title string, of func(*Row) int) Column {
	return number(title, len(title), func(r *Row) float64 { return float64(of(r)) }, func(r *Row) string { return dash(fmt.Sprint(of(r))) })
}

func rate(title string, of func(*Row) float64) Column {
	return number(title, 8, of, func(r *Row) string { return dash(fmt.Sprintf("%.*f", decimals(of(r)), of(r))) })
}

// decimals leaves a rate that is not 0 one digit at least that is not.
func decimals(rate float64) int {
	if rate == 0 || rate >= 100 {
		return 0
	}
	return 1
}

func duration(title string, of func(*Row) time.Duration) Column {
	return number(title, 7, func(r *Row) float64 { return float64(of(r)) }, func(r *Row) string { return dash(ShortDuration(of(r))) })
}

// dash makes what is nothing easy to pass over.
func dash(text string) string {
	if text == "0" || text == "0s" {
		return "-"
	}
	return text
}

var (
	calls       = rate("CALLS/S", func(r *Row) float64 { return r.Rate })
	failed      = rate("FAILED/S", func(r *Row) float64 { return r.Failed })
	p50         = duration("P50", func(r *Row) time.Duration { return r.P50 })
	p99         = duration("P99", func(r *Row) time.Duration { return r.P99 })
	inflight    = count("INFLIGHT", func(r *Row) int { return r.Inflight })
	throttled   = count("THROTTLED", func(r *Row) int { return r.Throttled })
	quarantined = count("QUARANTINED", func(r *Row) int { return r.Quarantined })
	state       = Column{"STATE", 11, func(r *Row) string { return printable(r.State) }, func(a, b *Row) int { return cmp.Compare(a.State, b.State) }, false}
)

func name(title string) Column {
	return Column{title, 0, func(r *Row) string { return printable(r.label()) }, func(a, b *Row) int { return cmp.Compare(a.label(), b.label()) }, false}
}

// label is how people know the container or plugin.
func (r *Row) label() string { return cmp.Or(r.Name, r.ID) }

// The columns of the two tables.
var (
	ContainerColumns = []Column{name("CONTAINER"), calls, failed, p50, p99, inflight, throttled, quarantined}
	PluginColumns    = []Column{name("PLUGIN"), calls, failed, p50, p99, inflight, quarantined, state}
)

// sortRows sorts rows by a column, numbers from the largest, or the other way round. Those that are equal there are
// sorted by name, so that they keep their places.
func sortRows(rows []Row, by Column, reversed bool) {
	slices.SortStableFunc(rows, func(a, b Row) int {
		order := by.compare(&a, &b)
		if by.largest != reversed {
			order = -order
		}
		return cmp.Or(order, cmp.Compare(a.label(), b.label()), cmp.Compare(a.ID, b.ID))
	})
}

// ShortDuration is a duration with three digits at most.
func ShortDuration(d time.Duration) string {
	if d >= 10*time.Second {
		return d.Round(time.Second / 10).String()
	}
	unit := time.Nanosecond
	for unit*1000 <= d {
		unit *= 10
	}
	return d.Round(unit).String()
}

// Line is a line of a table that is so wide, in characters: of the titles, or of a row. Each has its cell's text,
// which is cut or padded. A table is never narrower than its columns.
func Line(columns []Column, width int, text func(Column) string) string {
	var b strings.Builder
	for i, c := range columns {
		if i == 0 {
			b.WriteString(pad(text(c), nameWidth(columns, width), false))
			continue
		}
		b.WriteByte(' ')
		b.WriteString(pad(text(c), c.width, c.largest))
	}
	return b.String()
}

// Title returns what the line of titles has in a column.
func Title(c Column) string { return c.Title }

// Text returns what a row has in each column.
func (r *Row) Text(c Column) string { return c.text(r) }

// minName is the least width of a name.
const minName = 12

// nameWidth is the width that the other columns leave for the first one.
func nameWidth(columns []Column, width int) int {
	for _, c := range columns[1:] {
		width -= c.width + 1
	}
	return max(width, minName)
}

// fullWidth is the width at which no name is cut.
func fullWidth(columns []Column, rows []Row) int {
	longest := len(columns[0].Title)
	for i := range rows {
		longest = max(longest, len(rows[i].Text(columns[0])))
	}
	width := longest
	for _, c := range columns[1:] {
		width += c.width + 1
	}
	return width
}

// printable escapes what is not to reach a terminal, and what does not take one cell of it: names are strangers'.
func printable(text string) string {
	quoted := strconv.QuoteToASCII(text)
	return quoted[1 : len(quoted)-1]
}

// pad makes the text so wide, by spaces or by cutting it.
func pad(text string, width int, right bool) string {
	length := utf8.RuneCountInString(text)
	switch {
	case length > width:
		return string([]rune(text)[:width-1]) + "…"
	case right:
		return strings.Repeat(" ", width-length) + text
	default:
		return text + strings.Repeat(" ", width-length)
	}
}
