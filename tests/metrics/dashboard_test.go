package metrics

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	dashboardFile = "../../deploy/grafana/intercede.json"
	rulesFile     = "../../deploy/prometheus/intercede.rules.yaml"
	unitTestsFile = "../../deploy/prometheus/intercede.rules.test.yaml"
	pageFile      = "../../docs/metrics.md"
)

// dashboard is what the tests need of Grafana's model.
type dashboard struct {
	Panels []struct {
		ID      int    `json:"id"`
		Type    string `json:"type"`
		Title   string `json:"title"`
		GridPos struct{ X, Y, W, H int }
		Targets []struct {
			Expr string `json:"expr"`
		} `json:"targets"`
		Datasource struct {
			UID string `json:"uid"`
		} `json:"datasource"`
	} `json:"panels"`
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(readFile(t, dashboardFile)), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// expression is one of a panel, with the values that Grafana gives the dashboard's variables.
type expression struct{ panel, text string }

func (d *dashboard) expressions() (all []expression) {
	variables := strings.NewReplacer("$job", ".*", "$instance", ".*", "$__rate_interval", "1m")
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			all = append(all, expression{p.Title, variables.Replace(target.Expr)})
		}
	}
	return all
}

// TestDashboard checks what Grafana would show wrongly without a word.
func TestDashboard(t *testing.T) {
	d := readDashboard(t)
	ids, cells := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if p.Title == "" || ids[p.ID] {
			t.Errorf("panel %d (%q): want a title, and an ID of its own", p.ID, p.Title)
		}
		ids[p.ID] = true
		if p.Type != "row" && (len(p.Targets) == 0 || p.Datasource.UID != "${datasource}") {
			t.Errorf("panel %q: want an expression, and the data source of the variable", p.Title)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %q is over %q, or beyond the 24 columns", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
	}
	for _, e := range d.expressions() {
		if strings.Contains(e.text, "$") {
			t.Errorf("panel %q: a variable of which the test does not know: %s", e.panel, e.text)
		}
	}
}

var (
	metricName = regexp.MustCompile(`\bintercede_[a-z_]+`)
	pageRow    = regexp.MustCompile("(?m)^\\| `(intercede_[a-z_]+)`")
	alertName  = regexp.MustCompile(`(?m)^ +- alert: (\w+)$`)
)

// TestAllMetricsAreUsed compares the metrics of the page with those of the dashboard and of the alerts.
func TestAllMetricsAreUsed(t *testing.T) {
	var documented, used []string
	for _, found := range pageRow.FindAllStringSubmatch(readFile(t, pageFile), -1) {
		documented = append(documented, found[1])
	}
	for _, name := range metricName.FindAllString(readFile(t, dashboardFile)+readFile(t, rulesFile), -1) {
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			name = strings.TrimSuffix(name, suffix)
		}
		used = append(used, name)
		if !slices.Contains(documented, name) {
			t.Errorf("%s is not in %s", name, pageFile)
		}
	}
	for _, name := range documented {
		if !slices.Contains(used, name) {
			t.Errorf("%s is neither in the dashboard nor in an alert", name)
		}
	}
}

// TestRules has promtool check the alerts and run their unit tests, of which each alert has one.
func TestRules(t *testing.T) {
	promtool := find(t, "promtool")
	run(t, promtool, "check", "rules", rulesFile)
	run(t, promtool, "test", "rules", unitTestsFile)
	tests := readFile(t, unitTestsFile)
	alerts := alertName.FindAllStringSubmatch(readFile(t, rulesFile), -1)
	if len(alerts) == 0 {
		t.Error("no alerts")
	}
	for _, found := range alerts {
		fires := fmt.Sprintf("        alertname: %s\n        exp_alerts:\n          - exp_labels:", found[1])
		silent := fmt.Sprintf("alertname: %s }\n", found[1])
		if !strings.Contains(tests, fires) || !strings.Contains(tests, silent) {
			t.Errorf("%s has no unit test in which it fires, or none in which it does not", found[1])
		}
	}
}
