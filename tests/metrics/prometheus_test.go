package metrics

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/require"
	"github.com/intercede/intercede/tests/stage"
)

// find finds a program of Debian's package prometheus.
func find(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		require.Lacking(t, "needs %s: scripts/install-packages metrics", program)
	}
	return path
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if output, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %q: %v\n%s", name, args, err, output)
	}
}

// freeAddress is a loopback address with a port that is free now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// prometheus is a server that scrapes one target every second.
type prometheus struct {
	test    *stage.Test
	address string
}

const settings = `
global:
  scrape_interval: 1s
  evaluation_interval: 1s
rule_files: [%q]
scrape_configs:
  - job_name: intercede
    static_configs: [{ targets: [%q] }]
`

// startPrometheus starts one that ends with the test.
func startPrometheus(test *stage.Test, target string) *prometheus {
	test.Helper()
	program, dir := find(test.T, "prometheus"), test.TempDir()
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		test.Fatal(err)
	}
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, settings, rules, target), 0o600); err != nil {
		test.Fatal(err)
	}
	p := &prometheus{test, freeAddress(test.T)}
	process := test.Start(exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+p.address, "--log.level=warn"))
	test.Cleanup(func() {
		if test.Failed() {
			process.Kill()
			test.Logf("Prometheus's log:\n%s", &process.Stderr)
		}
	})
	test.Eventually("Prometheus is ready", func() bool {
		response, err := http.Get("http://" + p.address + "/-/ready")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	return p
}

// get asks the API (https://prometheus.io/docs/prometheus/latest/querying/api/) and decodes the data of its answer.
func (p *prometheus) get(path string, query url.Values, data any) error {
	client := http.Client{Timeout: stage.Patience}
	response, err := client.Get("http://" + p.address + "/api/v1/" + path + "?" + query.Encode())
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	answer := struct{ Data any }{data}
	if err := json.Unmarshal(text, &answer); err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s, %w: %s", response.Status, err, text)
	}
	return nil
}

// sample is one of the result of a query.
type sample struct {
	Metric map[string]string
	Value  [2]any // the time, and the value as a text
}

func (s sample) value() string { return fmt.Sprint(s.Value[1]) }

// query evaluates an expression now. It fails the test if that has an error.
func (p *prometheus) query(expression string) []sample {
	p.test.Helper()
	var data struct{ Result []sample }
	if err := p.get("query", url.Values{"query": {expression}}, &data); err != nil {
		p.test.Fatalf("%s: %v", expression, err)
	}
	return data.Result
}

// await waits until an expression has a result that is a number, and returns the result.
func (p *prometheus) await(what, expression string) (result []sample) {
	p.test.Helper()
	p.test.Eventually(fmt.Sprintf("%s has a result: %s", what, expression), func() bool {
		result = p.query(expression)
		for _, s := range result {
			if s.value() != "NaN" {
				return true
			}
		}
		time.Sleep(100 * time.Millisecond)
		return false
	})
	return result
}

// rule is an alert as Prometheus has read it.
type rule struct {
	Name      string
	Query     string
	State     string // inactive, pending or firing
	LastError string
}

func (p *prometheus) rules() (all []rule) {
	p.test.Helper()
	var data struct{ Groups []struct{ Rules []rule } }
	if err := p.get("rules", nil, &data); err != nil {
		p.test.Fatal(err)
	}
	for _, group := range data.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

// awaitAlert waits until the alert is active: pending, if it has a time to wait, or firing.
func (p *prometheus) awaitAlert(name string, provoke func()) {
	p.test.Helper()
	p.test.Eventually(name+" is active", func() bool {
		for _, r := range p.rules() {
			if r.Name == name && r.State != "inactive" {
				return true
			}
		}
		provoke()
		return false
	})
}
