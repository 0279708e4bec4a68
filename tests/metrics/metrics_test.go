package metrics

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/require"
	"github.com/intercede/intercede/tests/stage"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(stage.Main(m, stage.Kinds{})) }

const config = `
[plugins.mknod]
grant = "manifest"
timeout = "500ms"
[plugins.sysinfo]
grant = "manifest"
`

// comparison is that of an alert, which has one.
var comparison = regexp.MustCompile(`(==|!=|<=|>=|<|>) `)

// TestPrometheus has a container make calls, faults happen, and Prometheus scrape that.
func TestPrometheus(t *testing.T) {
	require.Root(t)
	find(t, "prometheus")
	s := stage.New(t, nil)
	d, address := serve(s)
	p := startPrometheus(s, address)
	calls := d.Container().Start("calls")
	if line := calls.Line(); line != "ready" {
		t.Fatalf("the container says %q", line)
	}
	failCall(s, d, p)

	for _, outcome := range []string{
		`plugin="mknod", outcome="return", reason="none"`, `plugin="mknod", outcome="continue", reason="device_not_listed"`,
		`plugin="mknod", outcome="errno"`, `plugin="sysinfo", outcome="return", reason="none"`,
	} {
		p.await(outcome, "sum(intercede_calls_total{"+outcome+"}) > 0")
	}
	p.await("one container", `intercede_containers{state="attached"} == 1`)
	checkText(t, d)

	dashboard := readDashboard(t)
	for _, e := range dashboard.expressions() {
		p.await("panel "+e.panel, e.text)
	}
	rules := p.rules()
	if len(rules) == 0 {
		t.Error("no alerts")
	}
	for _, r := range rules {
		if n := len(comparison.FindAllString(r.Query, -1)); n != 1 {
			t.Errorf("%s has %d comparisons, want 1: %s", r.Name, n, r.Query)
		}
		// Whether it holds: an answer means that what it compares is there.
		p.await(r.Name, comparison.ReplaceAllString(r.Query, "$1 bool "))
		if r.LastError != "" {
			t.Errorf("%s: %s", r.Name, r.LastError)
		}
	}

	p.awaitAlert("IntercedePluginRestarts", func() {
		signalPlugin(s, d, unix.SIGKILL)
		time.Sleep(200 * time.Millisecond)
	})
	failReload(s, d, p)
	killDaemon(s, d, p)
	calls.Kill()
	d.Stop()
	p.awaitAlert("IntercedeDown", func() { time.Sleep(100 * time.Millisecond) })
}

// serve starts a daemon with a descriptor store, and returns the address of its metrics.
func serve(s *stage.Test) (*stage.Daemon, string) {
	s.Helper()
	address := freeAddress(s.T)
	return s.Serve(stage.Setup{Config: config, Broker: fmt.Sprintf("metrics = %q", address), Kept: true}), address
}

// failCall stops the plugin mknod until a call has missed its deadline.
func failCall(s *stage.Test, d *stage.Daemon, p *prometheus) {
	s.Helper()
	s.Eventually("a call has missed its deadline", func() bool {
		signalPlugin(s, d, unix.SIGSTOP) // the daemon replaces it
		time.Sleep(time.Second)
		return len(p.query(`intercede_calls_total{plugin="mknod", reason="deadline"} > 0`)) > 0
	})
}

// signalPlugin sends a signal to the process of the plugin mknod, if it runs.
func signalPlugin(s *stage.Test, d *stage.Daemon, signal unix.Signal) {
	s.Helper()
	if pid := d.Plugin("mknod"); pid > 0 {
		unix.Kill(pid, signal)
	}
}

// failReload has the daemon read a config that has a fault.
func failReload(s *stage.Test, d *stage.Daemon, p *prometheus) {
	s.Helper()
	daemon := d.Status().PID
	good, err := os.ReadFile(d.Config())
	if err != nil {
		s.Fatal(err)
	}
	write := func(text []byte) {
		if err := os.WriteFile(d.Config(), text, 0o644); err != nil {
			s.Fatal(err)
		}
	}
	write(append([]byte("fault = true\n"), good...))
	unix.Kill(daemon, unix.SIGHUP)
	p.awaitAlert("IntercedeReloadFailed", func() { time.Sleep(100 * time.Millisecond) })
	write(good)
}

// killDaemon kills the daemon, while Prometheus has a connection to it: the next one serves at the same address, and
// goes on with the container.
func killDaemon(s *stage.Test, d *stage.Daemon, p *prometheus) {
	s.Helper()
	unix.Kill(d.Status().PID, unix.SIGKILL)
	p.await("the next daemon", "changes(process_start_time_seconds[5m]) > 0")
	p.await("its container", `intercede_containers{state="attached"} == 1`)
	p.await("its calls", "increase(intercede_calls_total[5m]) > 0")
}

// checkText has promtool lint the daemon's own metrics, as `intercede metrics` prints them.
func checkText(t *testing.T, d *stage.Daemon) {
	t.Helper()
	text, err := d.Command("metrics").Output()
	if err != nil {
		t.Fatal(err)
	}
	var own strings.Builder
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "intercede_") {
			own.WriteString(line)
		}
	}
	promtool := exec.Command(find(t, "promtool"), "check", "metrics")
	promtool.Stdin = strings.NewReader(own.String())
	if output, err := promtool.CombinedOutput(); err != nil || own.Len() == 0 {
		t.Errorf("promtool check metrics: %v: %s", err, output)
	}
}
