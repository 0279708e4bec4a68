package screen

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"
	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/figures"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/top"
)

// answer is one of a daemon that has counted for so many seconds, with so many containers, of which each makes as many
// calls a second as its number says.
func answer(seconds, containers int) *control.Status {
	started := time.Unix(1_000_000, 0)
	s := &control.Status{
		PID: 7, Started: started, At: started.Add(time.Duration(seconds) * time.Second), Healthy: true,
		Plugins: []launcher.Status{{Name: "mknod", State: launcher.Running}},
	}
	for i := range containers {
		calls := figures.Calls{Return: uint64(i * seconds)}
		s.Containers = append(s.Containers, broker.ContainerStatus{ID: fmt.Sprintf("c%02d", i), Outcomes: calls})
	}
	return s
}

func newTestModel(containers int) *model {
	m := &model{interval: time.Second, width: 80, height: 24}
	m.take(answered{answer(10, containers), nil})
	m.take(answered{answer(11, containers), nil})
	return m
}

var attributes = regexp.MustCompile(`\x1b\[\d*m`)

// screen is what the model shows, without attributes.
func (m *model) screen() string { return attributes.ReplaceAllString(m.View().Content, "") }

// first is the first row's name.
func (m *model) firstRow() string {
	name, _, _ := strings.Cut(strings.Split(m.screen(), "\n")[headLines], " ")
	return name
}

// keys presses keys.
func (m *model) keys(keys ...rune) {
	for _, key := range keys {
		m.Update(tea.KeyPressMsg{Code: key, Text: string(key)})
	}
}

func wantText(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}

// The screen has no more lines, and none longer, than the terminal.
func TestSize(t *testing.T) {
	m := newTestModel(100)
	for _, size := range [][2]int{{80, 24}, {200, 60}, {40, 10}, {20, 4}, {1, 1}} {
		m.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
		for _, help := range []bool{false, true} {
			m.help = help
			lines := strings.Split(m.screen(), "\n")
			if len(lines) > size[1] {
				t.Errorf("%v: %d lines", size, len(lines))
			}
			for _, line := range lines {
				if n := utf8.RuneCountInString(line); n > size[0] {
					t.Errorf("%v: %d characters: %q", size, n, line)
				}
			}
		}
		m.help = false
	}
}

func TestSortAndShow(t *testing.T) {
	m := newTestModel(3)
	wantText(t, m.screen(), "daemon 7, 3 containers, 1 plugins, 3 calls/s (of 1s)", "CONTAINER", "q quit")
	wantText(t, m.View().Content, "\x1b[7mCALLS/S\x1b[m")
	if got := m.firstRow(); got != "c02" {
		t.Errorf("%s has most calls", got)
	}
	if m.keys('r'); m.firstRow() != "c00" {
		t.Errorf("reversed: %s", m.firstRow())
	}
	for range len(m.table.Columns()) - 1 {
		m.keys('s')
	}
	if wantText(t, m.View().Content, "\x1b[7mCONTAINER\x1b[m"); m.firstRow() != "c00" {
		t.Errorf("by name: %s", m.firstRow())
	}
	m.Update(tea.KeyPressMsg{Code: tea.KeyRight})
	wantText(t, m.View().Content, "\x1b[7mCALLS/S\x1b[m")
	m.Update(tea.KeyPressMsg{Code: tea.KeyLeft})
	wantText(t, m.View().Content, "\x1b[7mCONTAINER\x1b[m")
	m.keys('p')
	wantText(t, m.screen(), "PLUGIN", "mknod", "running")
	m.Update(tea.KeyPressMsg{Code: tea.KeyTab})
	wantText(t, m.screen(), "CONTAINER", "c02")
	m.keys('?')
	wantText(t, m.screen(), "reverse the order")
	m.keys('p') // leaves the help, and does nothing else
	wantText(t, m.screen(), "CONTAINER", "c02")
	for _, key := range []tea.KeyPressMsg{{Code: 'q', Text: "q"}, {Code: 'c', Mod: tea.ModCtrl}} {
		_, cmd := m.Update(key)
		if cmd == nil {
			t.Errorf("%s does nothing", key)
		} else if _, quits := cmd().(tea.QuitMsg); !quits {
			t.Errorf("%s does not quit", key)
		}
	}
}

func TestScroll(t *testing.T) {
	m := newTestModel(100)
	at := func(want string) {
		t.Helper()
		if got := m.firstRow(); got != want {
			t.Errorf("the first row is %s, want %s", got, want)
		}
	}
	at("c99")
	wantText(t, m.screen(), "rows 1-20 of 100")
	m.Update(tea.KeyPressMsg{Code: tea.KeyDown})
	at("c98")
	m.Update(tea.KeyPressMsg{Code: tea.KeyPgDown})
	at("c78")
	m.Update(tea.KeyPressMsg{Code: tea.KeyEnd})
	at("c19")
	m.Update(tea.KeyPressMsg{Code: tea.KeyDown})
	at("c19")
	m.Update(tea.WindowSizeMsg{Width: 80, Height: 54}) // more room
	at("c49")
	m.take(answered{answer(12, 10), nil}) // fewer containers
	at("c09")
	m.Update(tea.KeyPressMsg{Code: tea.KeyPgUp})
	m.Update(tea.KeyPressMsg{Code: tea.KeyHome})
	at("c09")
}

// What the daemon does not say, or says of itself, is shown above the table.
func TestState(t *testing.T) {
	m := newTestModel(1)
	_, cmd := m.Update(answered{nil, errors.New("nobody answers:\x1b start the daemon")})
	if wantText(t, m.screen(), `NO ANSWER: nobody answers:\x1b start`, "c00"); cmd == nil {
		t.Error("the daemon is not asked again")
	}
	unhealthy := answer(12, 1)
	unhealthy.Healthy, unhealthy.Problems = false, []string{"the plugin mknod is stopped"}
	m.Update(answered{unhealthy, nil})
	wantText(t, m.screen(), "NOT HEALTHY: the plugin mknod is stopped")
	m.keys(' ')
	m.Update(answered{answer(20, 5), nil})
	if wantText(t, m.screen(), "paused", "1 containers"); m.sample.Period != time.Second {
		t.Errorf("paused, of %v", m.sample.Period)
	}
	m.keys(' ')
	m.Update(answered{answer(22, 5), nil})
	if wantText(t, m.screen(), "5 containers"); m.sample.Period != 10*time.Second {
		t.Errorf("after the pause, of %v", m.sample.Period)
	}
	quarantined := answer(23, 1)
	quarantined.Containers[0].Quarantines = []broker.Quarantine{{Plugin: "mknod"}}
	m.Update(answered{quarantined, nil})
	wantText(t, m.View().Content, "\x1b[1mc00")
	if m.table.Plugins = true; top.Between(nil, quarantined).Plugins[0].Quarantined != 1 {
		t.Error("the plugin has nobody quarantined")
	}
}
