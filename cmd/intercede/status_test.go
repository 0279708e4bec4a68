package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/figures"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

func TestPrintStatus(t *testing.T) { synctest.Test(t, testPrintStatus) } // in which no time passes

func testPrintStatus(t *testing.T) {
	status := &control.Status{
		Plugins: []launcher.Status{
			{Name: "mknod", State: launcher.BackingOff, NextStart: time.Now().Add(20 * time.Second)},
			{Name: "mount", State: launcher.Running, Isolated: 2},
		},
		Containers: []broker.ContainerStatus{{ID: "quiet", Name: "\x1b[2J", Generation: 7}},
		Version:    "1.2.3", Problems: []string{"the plugin mknod is backing off"},
		Config:      control.Config{Path: "/etc/c.toml", SHA256: strings.Repeat("ab", 32), Generation: 8},
		Reload:      &control.LastReload{At: time.Now().Add(-time.Minute), Error: "c.toml:3:1: broken (and 2 more)"},
		PluginCalls: []broker.PluginCalls{{Plugin: "mknod", Outcomes: figures.Calls{Return: 5, Next: 2, Failed: 1}}, {Plugin: "sysinfo"}},
	}
	var out strings.Builder
	print := func() string {
		t.Helper()
		out.Reset()
		if err := printStatus(&out, status); err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(out.String()), " ")
	}
	wantText(t, print(), "backing off for 20s", "running, and 2 for one container each", "version 1.2.3",
		"Config /etc/c.toml, sha256 abababababab, policy generation 8",
		"Last reload 1m0s ago: failed, the former config stays: c.toml:3:1: broken (and 2 more)",
		"NOT HEALTHY the plugin mknod is backing off", "This program has version", `quiet \u001b[2J`, " 7 0 0 0 0",
		"FAILED P50 P99 mknod 7 5 0 0 0 0 0 2 1 0s 0s CONTAINER")
	if strings.Contains(out.String(), "QUARANTINED") || strings.Contains(out.String(), "\x1b") {
		t.Errorf("nobody is quarantined, and what containers say is escaped:\n%s", &out)
	}
	since := time.Now().Add(-10 * time.Second)
	status.Containers = append(status.Containers, broker.ContainerStatus{ID: "busy", Quarantines: []broker.Quarantine{
		{Reason: "its memory hangs", Since: since},
		{Plugin: "mknod", Reason: "it ended three", Since: since, Until: time.Now().Add(time.Minute)},
	}})
	wantText(t, print(), "QUARANTINED PLUGIN SINCE ENDS REASON busy all 10s when that is over its memory hangs "+
		"busy mknod 10s in 1m0s it ended three")
}

// Status shows the daemon and its config without a config that can be read, and by the socket alone.
func TestStatusOfDaemon(t *testing.T) {
	s := newSite(t, both)
	d := s.serve(t)
	status := s.status(t)
	text, err := os.ReadFile(s.config())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	if want := (control.Config{Path: s.config(), SHA256: hex.EncodeToString(sum[:]), Generation: 1}); status.Config != want {
		t.Errorf("config %+v, want %+v", status.Config, want)
	}
	if !status.Healthy || len(status.Problems) != 0 || status.Version == "" || status.Reload != nil || len(status.Bounds) == 0 {
		t.Errorf("status %+v", status)
	}

	s.write(t, "nonsense")
	d.reload(t, "config not reloaded")
	r := intercede(t, "status", "--config", s.config())
	if r.status != cli.ExitFailure {
		t.Errorf("a config that is not TOML: status %d", r.status)
	}
	wantText(t, mustRun(t, program("status", "--control", s.dir+"/control")),
		"Last reload ", "failed, the former config stays: "+s.config(), "Healthy")

	s.write(t, both+"[nonsense]\n")
	r = intercede(t, "status", "--config", s.config())
	wantText(t, r.stderr, "has problems", s.dir+"/control")
	wantText(t, r.stdout, "sha256 "+hex.EncodeToString(sum[:6]), "policy generation 1")

	s.write(t, both)
	d.reload(t, "config reloaded")
	eventually(t, "the daemon notes the reload that it has logged", func() bool {
		status = s.status(t)
		return status.Reload.OK
	})
	if status.Config.Generation != 2 {
		t.Errorf("after a reload: %+v", status)
	}
}

// The page of a container, by its name.
func TestStatusOfContainer(t *testing.T) {
	s := newSite(t, both)
	d := s.serve(t)
	m := s.startMaker(t, "--name", "web")
	m.want(t, "made")
	m.want(t, "made")
	d.reload(t, "config reloaded")
	container := newFollower(t, program("run", "--config", s.config(), "--socket", s.socket(), "--",
		"sh", "-c", "mknod /tmp/b c 1 1; echo ready; exec sleep 1000"))
	if line := container.next(t); line != "ready" {
		t.Fatalf("the container says %q", line)
	}
	s.waitForRecords(t)

	listed := s.status(t).Containers
	if len(listed) != 2 || listed[0].Name != "web" || listed[0].Generation != 1 || listed[1].Name != "" || listed[1].Generation != 2 {
		t.Fatalf("containers %+v", listed)
	}
	var found control.Containers
	if err := json.Unmarshal([]byte(mustRun(t, program("status", "--control", s.dir+"/control", "--json", "web"))), &found); err != nil {
		t.Fatal(err)
	}
	if len(found.Attached) != 1 || found.Attached[0].ID != listed[0].ID {
		t.Fatalf("found %+v", found)
	}
	web := found.Attached[0]
	if web.Outcomes != (figures.Calls{Return: web.Outcomes.Return}) || web.Outcomes.Return < 2 || web.Calls != web.Outcomes.All() ||
		web.Durations.Quantile(0.5) == 0 {
		t.Errorf("web: %d calls, %+v, %v", web.Calls, web.Outcomes, web.Durations)
	}
	if p := web.Served[0]; p.Name != "mknod" || p.Outcomes != (figures.Calls{Return: 2}) {
		t.Errorf("web's mknod: %+v", p)
	}
	other := mustRun(t, program("status", "--config", s.config(), listed[1].ID[:10]))
	wantText(t, other, "Container "+listed[1].ID, "policy generation 2", "Listeners: 1", "mknod,mknodat", "devices", "default",
		"REFUSED, OR LEFT TO THE KERNEL", `"/tmp/b"`, "device_not_listed [mknod]: c 1:1")
	if row := regexp.MustCompile(`(?m)^mknod +\S+ +running +mknod,mknodat +1 +0 +0 +0 +0 +0 +0 +1 +0 `).FindString(other); row == "" {
		t.Errorf("no row of a call that mknod has handed back:\n%s", other)
	}
	counted := map[string]figures.Calls{}
	for _, p := range s.status(t).PluginCalls {
		counted[p.Plugin] = p.Outcomes
	}
	if counted["mknod"] != (figures.Calls{Return: 2, Next: 1}) {
		t.Errorf("all calls: %+v", counted)
	}
	r := intercede(t, "status", "--config", s.config(), "nosuch")
	if wantText(t, r.stderr, `knows no container "nosuch"`); r.status != cli.ExitFailure || r.stdout != "" {
		t.Errorf("no such container: %+v", r)
	}
}

// Health says in one line whether there is a daemon that works, and what to do if not.
func TestHealth(t *testing.T) {
	s := newSite(t, both)
	health := func(status int, args ...string) string {
		t.Helper()
		r := intercede(t, append([]string{"health", "--control", s.dir + "/control"}, args...)...)
		if said := r.stdout + r.stderr; r.status != status || strings.Count(said, "\n") != 1 {
			t.Errorf("%v: status %d, want %d: %s", args, r.status, status, said)
		}
		return r.stdout + r.stderr
	}
	wantText(t, health(cli.ExitFailure), "start the daemon")
	d := s.serve(t)
	wantText(t, health(0), "is healthy\n")
	for _, p := range s.status(t).Plugins {
		unix.Kill(p.PID, unix.SIGKILL)
	}
	eventually(t, "they run again", func() bool {
		return intercede(t, "health", "--control", s.dir+"/control").status == 0
	})
	d.cmd.Process.Signal(unix.SIGSTOP)
	eventually(t, "the daemon is stopped", func() bool { return linux.IsStopped(d.cmd.Process.Pid) })
	wantText(t, health(cli.ExitFailure, "--timeout", "200ms"), "does not answer in time", "restart it")
	d.cmd.Process.Signal(unix.SIGCONT)
	d.stop(t)

	l, err := net.Listen("unix", s.dir+"/control")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte("220 smtp\r\n"))
			conn.Close()
		}
	}()
	wantText(t, health(cli.ExitFailure), "does not answer as intercede does")
	l.Close()
}

// A plugin that does not run makes the daemon unhealthy: for status, after its output.
func TestUnhealthy(t *testing.T) {
	s := newSite(t, both)
	server, err := control.Listen(s.dir+"/control", nil)
	if err != nil {
		t.Fatal(err)
	}
	problems := []string{"the plugin mknod is backing off: it \x1b died"}
	served := make(chan error, 1)
	go func() {
		served <- server.Serve(control.Source{
			Health: func(context.Context) *control.Health { return &control.Health{PID: 7, Problems: problems} },
			Status: func() *control.Status { return &control.Status{PID: 7, Problems: problems} },
		})
	}()
	t.Cleanup(func() {
		if err := errors.Join(server.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	r := intercede(t, "health", "--config", s.config())
	const want = "intercede: daemon 7 is not healthy: the plugin mknod is backing off: it \\u001b died\n"
	if r.status != cli.ExitFailure || r.stderr != want {
		t.Errorf("health: status %d, %q", r.status, r.stderr)
	}
	r = intercede(t, "status", "--config", s.config())
	if wantText(t, r.stdout, "NOT HEALTHY\n  the plugin mknod"); r.status != cli.ExitFailure || r.stderr != "" {
		t.Errorf("status: %d, %q", r.status, r.stderr)
	}
	r = intercede(t, "status", "--config", s.config(), "--json")
	if wantText(t, r.stdout, `"healthy":false`); r.status != cli.ExitFailure || r.stderr != "" {
		t.Errorf("status --json: %d, %q", r.status, r.stderr)
	}
}

// Without a config, commands that ask the daemon use the default socket.
func TestDefaultSocket(t *testing.T) {
	c := statusCommand()
	if err := c.ParseFlags([]string{}); err != nil {
		t.Fatal(err)
	}
	f := &daemonFlags{}
	f.command = c
	f.config.Path = "/nonexistent/config.toml"
	if path, err := f.socket(); err != nil || path != config.DefaultControl {
		t.Errorf("%q, %v", path, err)
	}
}
