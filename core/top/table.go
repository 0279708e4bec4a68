package top

import (
	"fmt"
	"slices"
	"strings"
)

// Table says which rows are shown, and how they are sorted. Its zero value has the containers, those with most calls
// first.
type Table struct {
	Plugins  bool
	Reversed bool

	column int // that it is sorted by, counted from that of the calls
}

// callsColumn is the column that tables are sorted by unless somebody chooses.
const callsColumn = 1

// Columns are the table's columns.
func (t *Table) Columns() []Column {
	if t.Plugins {
		return PluginColumns
	}
	return ContainerColumns
}

// Sorted is the column that the table is sorted by.
func (t *Table) Sorted() Column {
	columns := t.Columns()
	return columns[(t.column+callsColumn)%len(columns)]
}

// SortByNext sorts by a column so many to the right, or, with a negative number, to the left.
func (t *Table) SortByNext(columns int) {
	n := len(t.Columns())
	t.column, t.Reversed = (t.column+columns+n)%n, false
}

// SortByTitle sorts by the column with the title, in any case, with or without "/s".
func (t *Table) SortByTitle(title string) error {
	titles := sortTitles(t.Columns())
	i := slices.Index(titles, sortTitle(title))
	if i < 0 {
		return fmt.Errorf("%q: want one of %s", title, strings.Join(titles, ", "))
	}
	t.column, t.Reversed = (i-callsColumn+len(titles))%len(titles), false
	return nil
}

// sortTitle is how a command line names a column.
func sortTitle(title string) string { return strings.TrimSuffix(strings.ToLower(title), "/s") }

func sortTitles(columns []Column) (titles []string) {
	for _, c := range columns {
		titles = append(titles, sortTitle(c.Title))
	}
	return titles
}

// SortTitles are what SortByTitle takes, of one table or the other.
func SortTitles() []string {
	titles := append(sortTitles(ContainerColumns), sortTitles(PluginColumns)...)
	slices.Sort(titles)
	return slices.Compact(titles)
}

// Rows are the sample's rows that the table shows, sorted.
func (t *Table) Rows(s *Sample) []Row {
	rows := s.Containers
	if t.Plugins {
		rows = s.Plugins
	}
	rows = slices.Clone(rows)
	sortRows(rows, t.Sorted(), t.Reversed)
	return rows
}

// Text is the table on lines as wide as they need to be.
func (t *Table) Text(s *Sample) string {
	columns, rows := t.Columns(), t.Rows(s)
	width := fullWidth(columns, rows)
	var b strings.Builder
	line := func(text func(Column) string) {
		b.WriteString(strings.TrimRight(Line(columns, width, text), " ") + "\n")
	}
	line(Title)
	for i := range rows {
		line(rows[i].Text)
	}
	return b.String()
}
