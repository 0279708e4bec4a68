// Package screen is `intercede top` on a terminal: the table of what containers or plugins do, which the keyboard
// sorts.
package screen

import (
	"context"
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/top"
)

// Ask asks the daemon how it is.
type Ask func(context.Context) (*control.Status, error)

// Run asks once, and then shows the table until somebody quits or ctx is done. The terminal is as before then.
func Run(ctx context.Context, ask Ask, interval time.Duration, table top.Table) error {
	first, err := ask(ctx)
	if err != nil {
		return err
	}
	m := &model{ask: func() (*control.Status, error) { return ask(ctx) }, interval: interval, table: table, width: 80, height: 24}
	m.take(answered{first, nil})
	_, err = tea.NewProgram(m, tea.WithContext(ctx), tea.WithoutSignalHandler()).Run()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

type model struct {
	ask      func() (*control.Status, error)
	interval time.Duration

	last   *control.Status
	sample *top.Sample
	err    error // why the daemon did not answer last time

	table  top.Table
	first  int // row that is shown
	help   bool
	paused bool

	width, height int
}

// answered is what the daemon said.
type answered struct {
	status *control.Status
	err    error
}

// due means that the daemon is to be asked again.
type due struct{}

func (m *model) request() tea.Msg {
	status, err := m.ask()
	return answered{status, err}
}

// Init implements tea.Model.
func (m *model) Init() tea.Cmd { return m.wait() }

// wait has the daemon asked again after the interval.
func (m *model) wait() tea.Cmd {
	return tea.Tick(m.interval, func(time.Time) tea.Msg { return due{} })
}

// Update implements tea.Model.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		return m, m.press(msg.String())
	case due:
		return m, m.request
	case answered:
		m.take(msg)
		return m, m.wait()
	}
	m.bound()
	return m, nil
}

// take keeps what the daemon said. The first answer shows what it has counted so far.
func (m *model) take(a answered) {
	if m.err = a.err; a.err != nil || m.paused {
		return
	}
	m.sample = top.Between(m.last, a.status)
	m.last = a.status
	m.bound()
}

// press does what a key stands for.
func (m *model) press(key string) tea.Cmd {
	if m.help && key != "q" && key != "ctrl+c" {
		m.help = false
		return nil
	}
	switch key {
	case "q", "ctrl+c":
		return tea.Quit
	case "ctrl+z":
		return tea.Suspend
	case "?", "h":
		m.help = true
	case "p":
		m.show(true)
	case "c":
		m.show(false)
	case "tab":
		m.show(!m.table.Plugins)
	case "s", "right":
		m.sortBy(1)
	case "left":
		m.sortBy(-1)
	case "r":
		m.table.Reversed = !m.table.Reversed
	case "space":
		m.paused = !m.paused
	case "up", "k":
		m.first--
	case "down", "j":
		m.first++
	case "pgup":
		m.first -= m.room()
	case "pgdown":
		m.first += m.room()
	case "home", "g":
		m.first = 0
	case "end", "G":
		m.first = len(m.rows())
	}
	m.bound()
	return nil
}

// show shows the other table, from its beginning.
func (m *model) show(plugins bool) {
	if m.table.Plugins != plugins {
		m.table, m.first = top.Table{Plugins: plugins}, 0
	}
}

func (m *model) sortBy(columns int) {
	m.table.SortByNext(columns)
	m.first = 0
}

// bound keeps the first row that is shown among those that there are.
func (m *model) bound() { m.first = max(min(m.first, len(m.rows())-m.room()), 0) }

// headLines are those above the rows, footLines those below.
const headLines, footLines = 3, 1

// room is how many rows there is room for.
func (m *model) room() int { return max(m.height-headLines-footLines, 1) }

func (m *model) rows() []top.Row { return m.table.Rows(m.sample) }

// View implements tea.Model.
func (m *model) View() tea.View {
	v := tea.NewView(strings.Join(m.lines(), "\n"))
	v.AltScreen = true
	return v
}

// lines are those of the screen, no wider and no more than it has.
func (m *model) lines() []string {
	lines := []string{cut(m.summary(), m.width), cut(m.state(), m.width)}
	if m.help {
		for _, line := range helpLines {
			lines = append(lines, cut(line, m.width))
		}
	} else {
		lines = append(lines, m.tableLines()...)
	}
	foot := "q quit  ? help  s sort  r reverse  p plugins  c containers"
	if n := len(m.rows()); !m.help && n > m.room() {
		foot = fmt.Sprintf("%s  rows %d-%d of %d", foot, m.first+1, min(m.first+m.room(), n), n)
	}
	for len(lines) < m.height-footLines {
		lines = append(lines, "")
	}
	lines = append(lines[:max(m.height-footLines, 0)], dim(cut(foot, m.width)))
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}

// summary is the first line.
func (m *model) summary() string {
	rate := 0.0
	for i := range m.sample.Containers {
		rate += m.sample.Containers[i].Rate
	}
	return fmt.Sprintf("intercede top - %s, daemon %d, %d containers, %d plugins, %.0f calls/s (of %s)",
		m.sample.At.Local().Format(time.TimeOnly), m.last.PID, len(m.sample.Containers), len(m.sample.Plugins), rate,
		m.sample.Period.Round(time.Second/10))
}

// state is the second line: what an operator must know first.
func (m *model) state() string {
	switch {
	case m.err != nil:
		return "NO ANSWER: " + plain(m.err.Error())
	case m.paused:
		return "paused (space goes on)"
	case !m.last.Healthy:
		return "NOT HEALTHY: " + plain(strings.Join(m.last.Problems, "; "))
	}
	return ""
}

// tableLines are the titles and the rows that there is room for.
func (m *model) tableLines() []string {
	columns, rows := m.table.Columns(), m.rows()
	lines := []string{m.titles(columns)}
	for i := m.first; i < min(m.first+m.room(), len(rows)); i++ {
		line := cut(top.Line(columns, m.width, rows[i].Text), m.width)
		if rows[i].Quarantined > 0 {
			line = bold(line)
		}
		lines = append(lines, line)
	}
	return lines
}

// titles are those of the columns, with that of the sorted one marked.
func (m *model) titles(columns []top.Column) string {
	sorted := m.table.Sorted().Title
	line := cut(top.Line(columns, m.width, top.Title), m.width)
	return strings.Replace(line, sorted, reverse(sorted), 1)
}

var helpLines = strings.Split(`
  q, ctrl-c      quit
  p, c, tab      plugins, containers, the other ones
  s, left, right sort by the next or the previous column
  r              reverse the order
  up, down, page up, page down, home, end
                 show other rows
  space          hold the figures, or let them go on
  ?              this help; any key leaves it

  CALLS/S   calls that ended, per second; FAILED/S of them got a failure
            verdict
  P50, P99  of a container's calls, from the receipt to the answer; of what a
            plugin takes
  THROTTLED listeners whose calls wait in the kernel, because the container
            is at its limits`, "\n")
