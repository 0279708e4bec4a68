package top

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/figures"
	"github.com/intercede/intercede/core/launcher"
)

var start = time.Unix(1_000_000, 0)

// status is an answer of a daemon after so many seconds.
func status(seconds int, containers ...broker.ContainerStatus) *control.Status {
	return &control.Status{PID: 7, Started: start, At: start.Add(time.Duration(seconds) * time.Second), Containers: containers}
}

// took are the durations of calls.
func took(calls ...time.Duration) figures.Durations {
	var h figures.Histogram
	for _, d := range calls {
		h.Observe(d)
	}
	return h.Durations()
}

func TestBetween(t *testing.T) {
	before := status(10,
		broker.ContainerStatus{ID: "a", InitPID: 1, Outcomes: figures.Calls{Return: 100}, Durations: took(time.Second)},
		broker.ContainerStatus{ID: "b", InitPID: 2, Outcomes: figures.Calls{Return: 50}},
	)
	before.PluginCalls = []broker.PluginCalls{{Plugin: "mknod", Outcomes: figures.Calls{Return: 5, Next: 5}}}
	now := status(12,
		broker.ContainerStatus{
			ID: "a", Name: "web", InitPID: 1, Outcomes: figures.Calls{Return: 120, Errno: 10, Failed: 4}, Inflight: 3, Throttled: 2,
			Durations:   took(time.Second, time.Millisecond, time.Millisecond, time.Millisecond),
			Quarantines: []broker.Quarantine{{Plugin: "mknod"}, {}},
		},
		broker.ContainerStatus{ID: "b", InitPID: 3, Outcomes: figures.Calls{Return: 8}}, // created anew
	)
	now.Plugins = []launcher.Status{
		{Name: "mknod", State: launcher.BackingOff}, {Name: "mknod", State: launcher.Running}, {Name: "sysinfo", State: launcher.Starting},
	}
	now.PluginCalls = []broker.PluginCalls{
		{Plugin: "gone", Outcomes: figures.Calls{Return: 4}},
		{Plugin: "mknod", Outcomes: figures.Calls{Return: 9, Next: 7}, Inflight: 1},
	}
	s := Between(before, now)
	if s.Period != 2*time.Second || len(s.Containers) != 2 || len(s.Plugins) != 3 {
		t.Fatalf("%+v", s)
	}
	a, b := s.Containers[0], s.Containers[1]
	if a.Rate != 15 || a.Failed != 2 || a.Inflight != 3 || a.Throttled != 2 || a.Quarantined != 2 || a.P99 > 2*time.Millisecond || a.P50 == 0 {
		t.Errorf("a: %+v", a)
	}
	if b.Rate != 4 || b.P50 != 0 {
		t.Errorf("b, which is another one than before: %+v", b)
	}
	for i, want := range []Row{
		{ID: "mknod", State: launcher.Running, Rate: 3, Inflight: 1, Quarantined: 1},
		{ID: "sysinfo", State: launcher.Starting},
		{ID: "gone", State: launcher.Stopped, Rate: 2},
	} {
		if s.Plugins[i] != want {
			t.Errorf("plugin %+v, want %+v", s.Plugins[i], want)
		}
	}

	now.PID = 8 // another daemon, which has counted for 12 s
	if s := Between(before, now); s.Period != 12*time.Second || s.Containers[1].Rate != 8.0/12 {
		t.Errorf("after a restart: %+v", s)
	}
	if s := Between(nil, now); s.Period != 12*time.Second {
		t.Errorf("first: %+v", s)
	}
	if s := Between(now, now); s.Period <= 0 || s.Containers[0].Rate != 0 {
		t.Errorf("at once: %+v", s)
	}
}

func TestSort(t *testing.T) {
	rows := []Row{{ID: "c", Rate: 5}, {ID: "a", Rate: 5}, {ID: "b", Rate: 7, State: "x"}}
	order := func(by Column, reversed bool) string {
		sortRows(rows, by, reversed)
		return rows[0].ID + rows[1].ID + rows[2].ID
	}
	for _, test := range []struct {
		by       Column
		reversed bool
		want     string
	}{
		{ContainerColumns[1], false, "bac"}, {ContainerColumns[1], true, "acb"},
		{ContainerColumns[0], false, "abc"}, {ContainerColumns[0], true, "cba"},
		{PluginColumns[7], false, "acb"}, {PluginColumns[7], true, "bac"},
	} {
		if got := order(test.by, test.reversed); got != test.want {
			t.Errorf("by %s, reversed %v: %s, want %s", test.by.Title, test.reversed, got, test.want)
		}
	}
}

func TestLine(t *testing.T) {
	row := Row{ID: strings.Repeat("0123456789", 7), Rate: 12345.6, P50: 123456 * time.Nanosecond, P99: 4567 * time.Microsecond, Throttled: 12}
	for name, test := range map[string]struct {
		columns []Column
		width   int
		want    string
	}{
		"titles at 80": {ContainerColumns, 80, "CONTAINER        CALLS/S FAILED/S     P50     P99 INFLIGHT THROTTLED QUARANTINED"},
		"plugins":      {PluginColumns, 0, "PLUGIN        CALLS/S FAILED/S     P50     P99 INFLIGHT QUARANTINED STATE      "},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Line(test.columns, test.width, Title); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
	const want = "01234567890123…    12346        -   123µs  4.57ms        -        12           -"
	if got := Line(ContainerColumns, 80, row.Text); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := Line(ContainerColumns, fullWidth(ContainerColumns, []Row{row}), row.Text); !strings.HasPrefix(got, row.ID+" ") {
		t.Errorf("%q is cut", got)
	}
	evil := Row{ID: "x", Name: "\x1b[2J\u202e\n\u4e16"}
	if got := Line(ContainerColumns, 120, evil.Text); !strings.HasPrefix(got, `\x1b[2J\u202e\n\u4e16 `) {
		t.Errorf("%q: a name reaches the terminal", got)
	}
}

func TestShortDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 999: "999ns", 12345: "12.3µs", 123456: "123µs", 4567890: "4.57ms", 999999999: "1s", 12345 * time.Millisecond: "12.3s",
	} {
		if got := ShortDuration(d); got != want {
			t.Errorf("%d ns: %s, want %s", d, got, want)
		}
	}
}

func TestJSON(t *testing.T) {
	text, err := json.Marshal(&Sample{
		At: start.UTC(), Period: time.Second, Containers: []Row{{ID: "a", Rate: 1.5, P50: time.Millisecond}}, Plugins: []Row{},
	})
	const want = `{"at":"1970-01-12T13:46:40Z","period_s":1,"containers":[{"id":"a","calls_per_s":1.5,"failed_per_s":0,` +
		`"p50_s":0.001,"p99_s":0,"inflight":0,"quarantined":0,"throttled":0}],"plugins":[]}`
	if string(text) != want || err != nil {
		t.Errorf("%s, %v, want %s", text, err, want)
	}
}

func TestTable(t *testing.T) {
	sample := &Sample{
		Containers: []Row{{ID: "slow", P99: time.Second, Rate: 1}, {ID: "busy", Rate: 9}},
		Plugins:    []Row{{ID: "mknod", State: launcher.Running}},
	}
	var table Table
	first := func() string { return table.Rows(sample)[0].ID }
	if first() != "busy" || table.Sorted().Title != "CALLS/S" || sample.Containers[0].ID != "slow" {
		t.Errorf("by %s: %s", table.Sorted().Title, first())
	}
	for _, title := range []string{"p99", "P99"} {
		if err := table.SortByTitle(title); err != nil || first() != "slow" {
			t.Errorf("by %s: %s, %v", table.Sorted().Title, first(), err)
		}
	}
	if err := table.SortByTitle("state"); err == nil || !strings.Contains(err.Error(), "calls, failed, p50") {
		t.Errorf("containers by state: %v", err)
	}
	seen := map[string]bool{}
	for range ContainerColumns {
		table.SortByNext(1)
		seen[table.Sorted().Title] = true
	}
	if table.Sorted().Title != "P99" || len(seen) != len(ContainerColumns) {
		t.Errorf("all columns to the right: %s, %v", table.Sorted().Title, seen)
	}
	if table.SortByNext(-4); table.Sorted().Title != "CONTAINER" {
		t.Errorf("four to the left: %s", table.Sorted().Title)
	}
	table = Table{Plugins: true}
	const want = "PLUGIN        CALLS/S FAILED/S     P50     P99 INFLIGHT QUARANTINED STATE\n" +
		"mknod               -        -       -       -        -           - running\n"
	if got := table.Text(sample); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
