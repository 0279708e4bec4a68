package metrics

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/intercede/intercede/core/audit"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
)

// full is a state with all that a scrape can show.
var full = State{
	Up: true, Containers: map[ContainerState]int{Attached: 3}, InFlight: 2, Waiting: map[Limit]int{Inflight: 1},
	Plugins:  []PluginState{{ID: 1, Name: "mknod", State: "running", Restarts: 2}},
	Dropped:  map[Reader]uint64{Log: 7},
	Journal:  Use{Used: 1, Size: 10},
	Store:    &Use{Used: 4, Size: 4096},
	Reloaded: Reload{OK: true, Last: time.Unix(1, 0)},
}

// newFull makes metrics that show all there is.
func newFull() *Metrics {
	m := New("0.1.0")
	m.Watch(func() State { return full })
	m.Calls().Plugin("mknod").Count("mknodat", &audit.Outcome{Kind: audit.Return}, time.Millisecond)
	return m
}

// own returns the project's metrics.
func own(t *testing.T, m *Metrics) (families []*dto.MetricFamily) {
	t.Helper()
	all, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range all {
		if strings.HasPrefix(family.GetName(), prefix) {
			families = append(families, family)
		}
	}
	return families
}

// TestNames has the names linted as `promtool check metrics` does.
func TestNames(t *testing.T) {
	m := newFull()
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	all, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range all {
		if !regexp.MustCompile(`^(intercede|go|process)_`).MatchString(family.GetName()) {
			t.Errorf("%s has another prefix", family.GetName())
		}
	}
}

// row is a metric's in the tables of docs/metrics.md: name, type, labels.
var row = regexp.MustCompile("(?m)^\\| `(intercede_[a-z_]+)` \\| ([a-z]+) \\|([^|]*)\\|")

// TestPage compares docs/metrics.md with the metrics: their names, types and labels.
func TestPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var page, code []string
	for _, found := range row.FindAllStringSubmatch(string(text), -1) {
		labels := strings.Split(strings.ReplaceAll(strings.TrimSpace(found[3]), "`", ""), ", ")
		slices.Sort(labels)
		page = append(page, fmt.Sprintf("%s %s %s", found[1], found[2], strings.Join(labels, " ")))
	}
	for _, family := range own(t, newFull()) {
		var labels []string
		for _, label := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, label.GetName())
		}
		slices.Sort(labels)
		code = append(code, fmt.Sprintf("%s %s %s", family.GetName(), strings.ToLower(family.GetType().String()), strings.Join(labels, " ")))
	}
	for _, line := range page {
		if !slices.Contains(code, line) {
			t.Errorf("the page has a metric that is not in the code: %s", line)
		}
	}
	for _, line := range code {
		if !slices.Contains(page, line) {
			t.Errorf("the page lacks %s", line)
		}
	}
}

// TestBounds has a plugin make as many labels as it can: how many there are is bounded, and no call is lost.
func TestBounds(t *testing.T) {
	m := New("0.1.0")
	hostile := m.Calls().Plugin("hostile")
	const threads, each = 4, 5000
	var calling sync.WaitGroup
	for range threads {
		calling.Go(func() {
			for range each {
				hostile.Count(fmt.Sprintf("call%d", rand.IntN(1000)), &audit.Outcome{
					Kind: kinds[rand.IntN(len(kinds))], Reason: audit.Reason{Code: fmt.Sprintf("code%d", rand.IntN(1000))},
				}, time.Millisecond)
				m.Calls().Undecided().Count(fmt.Sprintf("#%d", rand.IntN(1000)), &audit.Outcome{Kind: audit.Continue}, time.Millisecond)
			}
		})
	}
	calling.Wait()
	counted, series := map[string]float64{}, map[string]int{}
	for _, family := range own(t, m) {
		if family.GetName() != "intercede_calls_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			plugin := labelOf(metric, "plugin")
			counted[plugin] += metric.GetCounter().GetValue()
			series[plugin]++
		}
	}
	if counted["hostile"] != threads*each || counted[none] != threads*each {
		t.Errorf("counted %v, want %d of each", counted, threads*each)
	}
	// Of each system call and outcome, one without a reason, and at most one with the reason "other".
	if most := (maxSyscalls+1)*len(kinds)*2 + maxReasons; series["hostile"] > most {
		t.Errorf("%d series of one plugin, want %d at most", series["hostile"], most)
	}
	if series[none] != len(kinds) {
		t.Errorf("%d series of calls without a name, want %d", series[none], len(kinds))
	}
}

func labelOf(metric *dto.Metric, name string) string {
	for _, label := range metric.GetLabel() {
		if label.GetName() == name {
			return label.GetValue()
		}
	}
	return ""
}

func TestCountAllocatesNothing(t *testing.T) {
	plugin := New("0.1.0").Calls().Plugin("mknod")
	for name, outcome := range map[string]*audit.Outcome{
		"plain": {Kind: audit.Return}, "with a reason": {Kind: audit.Continue, Reason: audit.Reason{Code: "device_not_listed"}},
	} {
		if n := testing.AllocsPerRun(1000, func() { plugin.Count("mknodat", outcome, time.Millisecond) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkCount(b *testing.B) {
	plugin := New("0.1.0").Calls().Plugin("mknod")
	b.Run("duration", func(b *testing.B) {
		for b.Loop() {
			plugin.duration.Observe((20 * time.Microsecond).Seconds())
		}
	})
	for name, outcome := range map[string]*audit.Outcome{
		"plain": {Kind: audit.Return}, "reason": {Kind: audit.Continue, Reason: audit.Reason{Code: "device_not_listed"}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				plugin.Count("mknodat", outcome, 20*time.Microsecond)
			}
		})
	}
}

// TestTotals has a plugin be replaced by one of its name, which counts from its own start: the total grows on.
func TestTotals(t *testing.T) {
	m := New("0.1.0")
	state := State{}
	m.Watch(func() State { return state })
	for _, test := range []struct {
		plugins []PluginState
		want    float64
	}{
		{[]PluginState{{ID: 1, Name: "mknod", Restarts: 2}}, 2},
		{[]PluginState{{ID: 1, Name: "mknod", Restarts: 3}, {ID: 2, Name: "mknod"}}, 3},
		{[]PluginState{{ID: 2, Name: "mknod", Restarts: 1}}, 4},
		{[]PluginState{{ID: 2, Name: "mknod", Restarts: 1}, {ID: 3, Name: "bpf", Restarts: 9}}, 4},
	} {
		state.Plugins = test.plugins
		for _, family := range own(t, m) {
			if family.GetName() != "intercede_plugin_restarts_total" {
				continue
			}
			for _, metric := range family.GetMetric() {
				if got := metric.GetCounter().GetValue(); labelOf(metric, "plugin") == "mknod" && got != test.want {
					t.Errorf("%v: %v restarts, want %v", test.plugins, got, test.want)
				}
			}
		}
	}
}

// serve serves the metrics on a free port.
func serve(t *testing.T, m *Metrics) (address string) {
	t.Helper()
	s, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- s.Serve(m) }()
	t.Cleanup(func() {
		s.Close()
		s.Close() // does nothing
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s.listener.Addr().String()
}

func TestServe(t *testing.T) {
	m := newFull()
	address := serve(t, m)
	var text bytes.Buffer
	if err := m.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/metrics": http.StatusOK, "/": http.StatusNotFound, "/debug/pprof/": http.StatusNotFound} {
		response, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != want {
			t.Errorf("%s: %s, %v, want %d", path, response.Status, err, want)
		}
		if want != http.StatusOK {
			continue
		}
		// The Go runtime's change meanwhile.
		for line := range strings.Lines(text.String()) {
			if strings.Contains(line, prefix) && !strings.Contains(string(body), line) {
				t.Errorf("%s lacks %s", path, line)
			}
		}
	}
}

// TestListenTaken listens where somebody else does.
func TestListenTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = Listen(l.Addr().String())
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("%v", err)
	}
}

// TestServeBounds has peers open connections and say nothing: more than there may be are not accepted, so that they
// cost the daemon no descriptors, and when those are gone the next ones are served.
func TestServeBounds(t *testing.T) {
	address := serve(t, newFull())
	var silent []net.Conn
	for range 3 * maxConnections {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	// The last one waits in the kernel: what it asks is not answered, whereas the first one would be.
	last := silent[len(silent)-1]
	io.WriteString(last, "GET /metrics HTTP/1.0\r\n\r\n")
	last.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if n, err := last.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("a connection beyond the %d that there may be was answered", maxConnections)
	}
	for _, c := range silent[:len(silent)-1] {
		c.Close()
	}
	last.SetReadDeadline(time.Now().Add(30 * time.Second))
	if answer, err := io.ReadAll(last); err != nil || !strings.Contains(string(answer), "intercede_up 1") {
		t.Errorf("after the others are gone: %v: %s", err, answer)
	}
}
