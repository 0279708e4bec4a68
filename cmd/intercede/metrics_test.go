package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/intercede/intercede/cmd/internal/cli"
)

// freeAddress is an address with a port that is free now. Its loopback address is this process's alone, so that nobody
// else gets the port meanwhile.
func freeAddress(t *testing.T) string {
	t.Helper()
	pid := os.Getpid()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+pid>>16&0x7f, pid>>8&0xff, pid&0xff))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// scrape reads the metrics as Prometheus does.
func scrape(t *testing.T, address string) string {
	t.Helper()
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v: %s", response.Status, err, text)
	}
	return string(text)
}

// The metrics tell of containers and their calls, plugins, and reloads, at the address and on the admin socket.
func TestMetrics(t *testing.T) {
	s := newSite(t, both)
	address := freeAddress(t)
	s.setBroker(t, fmt.Sprintf("metrics = %q\n", address))
	d := s.serve(t)
	m := s.startMaker(t)
	m.want(t, "made")
	const counted = `intercede_calls_total{outcome="return",plugin="mknod",reason="none",syscall="mknodat"} 1`
	eventually(t, "the call is counted", func() bool { return strings.Contains(scrape(t, address), counted) })
	wantText(t, scrape(t, address), "intercede_up 1\n", `intercede_containers{state="attached"} 1`,
		`intercede_call_duration_seconds_count{plugin="mknod"} 1`, `intercede_plugin_state{plugin="mknod",state="running"} 1`,
		"intercede_config_last_reload_successful 1\n", "intercede_descriptor_store_available 0\n", "process_resident_memory_bytes ")
	wantText(t, mustRun(t, program("metrics", "--config", s.config())), `intercede_containers{state="attached"} 1`, "go_goroutines ")

	s.setBroker(t, "log_level = \"none\"\n")
	d.reload(t, "config not reloaded")
	wantText(t, scrape(t, address), "intercede_config_last_reload_successful 0\n")
	s.setBroker(t, fmt.Sprintf("metrics = %q\n", freeAddress(t)))
	wantText(t, mustRun(t, program("reload", "--config", s.config())), "broker.metrics: restart the daemon for it")
	wantText(t, scrape(t, address), "intercede_config_last_reload_successful 1\n")

	m.in.Close()
	s.waitForContainers(t, 0)
	wantText(t, scrape(t, address), `intercede_containers{state="attached"} 0`)
	d.stop(t)
	s.serve(t) // at once, at the other address
}

// Without an address there are none; with one that is taken the daemon does not start, and says why.
func TestMetricsWithoutAddress(t *testing.T) {
	s := newSite(t, both)
	s.serve(t)
	r := intercede(t, "metrics", "--config", s.config())
	if r.status != cli.ExitFailure {
		t.Errorf("status %d", r.status)
	}
	wantText(t, r.stderr, `give [broker] metrics an address, such as "127.0.0.1:9099", and restart the daemon`)

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	other := newSite(t, both)
	other.setBroker(t, fmt.Sprintf("metrics = %q\n", taken.Addr()))
	r = intercede(t, "serve", "--config", other.config())
	if r.status != cli.ExitFailure {
		t.Errorf("status %d", r.status)
	}
	wantText(t, r.stderr, "[broker] metrics", taken.Addr().String(), "address already in use")
	if _, err := os.Stat(other.socket()); err == nil {
		t.Error("the socket is left")
	}
}

// An address that other hosts reach is legal, and a warning says what it means.
func TestCheckWarnsOfMetrics(t *testing.T) {
	s := newSite(t, both)
	for address, warned := range map[string]bool{
		"127.0.0.1:9099": false, "[::1]:9099": false, "[::ffff:127.0.0.1]:9099": false, "0.0.0.0:9099": true, "[::]:9099": true,
		"192.0.2.1:9099": true,
	} {
		s.setBroker(t, fmt.Sprintf("metrics = %q\n", address))
		r := intercede(t, "check", "--config", s.config())
		if r.status != 0 {
			t.Errorf("%s: status %d", address, r.status)
		}
		if got := strings.Contains(r.stderr, ":2:1: broker.metrics: warning: "+address+" is not a loopback address"); got != warned {
			t.Errorf("%s: warned %v, want %v: %s", address, got, warned, r.stderr)
		}
	}
}
