package stage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Daemon is a running `intercede serve`, with a folder for its config and sockets.
type Daemon struct {
	test     *Test
	programs string // the folder of intercede
	plugins  string // and of the plugins
	config   string // the file
	sockets  string // the folder of its sockets
	dir      string // for what the tests make
	process  *exec.Cmd
	exited   chan struct{}
	stopped  bool
	Log      Log
}

// Setup says how a daemon is started.
type Setup struct {
	Programs string   // Production by default
	Config   string   // of the plugins
	Broker   string   // further lines of [broker]
	Delays   string   // see internal/pause
	Wrapper  []string // a command that executes the daemon: what follows it are the daemon's words
	Kept     bool     // `intercede keep` starts it, and starts it again
	Open     bool     // any user of the host may connect to its socket for OCI runtimes
}

// Everything enables every plugin. sched and bpf are off by default.
var Everything = Enable(map[string]string{
	"mknod":    "",
	"sysinfo":  "",
	"setxattr": "read = true",
	"sched":    "min_nice = -10",
	"bpf":      "devices = true",
	"mount":    "allowed = [\"ext4\"]\nshift = true\nfuse = { squashfs = \"/bin/exec\" }",
})

// Enable is a config that enables plugins, each with the lines of its own config.
func Enable(plugins map[string]string) string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(plugins)) {
		fmt.Fprintf(&text, "[plugins.%s]\ngrant = \"manifest\"\n[plugins.%[1]s.config]\n%s\n", name, plugins[name])
	}
	return text.String()
}

// Serve starts a daemon and waits until it answers. It ends with the test, and must end well.
func (t *Test) Serve(s Setup) *Daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "ic")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil { // plugins and users have their way through it
		t.Fatal(err)
	}
	if s.Programs == "" {
		s.Programs = Production
	}
	d := &Daemon{
		test: t, programs: s.Programs, plugins: s.Programs, config: dir + "/config.toml", sockets: dir, dir: dir, exited: make(chan struct{}),
	}
	text := fmt.Sprintf("[broker]\nsocket = %q\nlxc_socket = %q\ncontrol = %q\nplugin_dir = %q\n%s\n%s", d.Socket(), d.lxcSocket(),
		dir+"/control.sock", s.Programs, s.Broker, s.Config)
	if err := os.WriteFile(d.Config(), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	words := append(s.Wrapper, d.Program(), "serve", "--config", d.Config())
	if s.Kept {
		words = append([]string{d.Program(), "keep", "--fallback", dir + "/fallback", "--"}, words...)
	}
	d.process = exec.Command(words[0], words[1:]...)
	d.process.Env = append(os.Environ(), "TMPDIR="+dir, "INTERCEDE_DELAYS="+s.Delays)
	d.process.Stderr = &d.Log
	endWithTests(d.process)
	if err := d.process.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		d.process.Wait()
		close(d.exited)
	}()
	t.Cleanup(d.end)
	t.Eventually("the daemon answers", func() bool {
		select {
		case <-d.exited:
			t.Fatalf("the daemon does not start:\n%s", &d.Log)
		default:
		}
		return d.TryStatus() != nil
	})
	if s.Open {
		if err := os.Chmod(d.Socket(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// Config is the path of the config.
func (d *Daemon) Config() string { return d.config }

// Socket is the path of the socket for OCI runtimes.
func (d *Daemon) Socket() string { return filepath.Join(d.sockets, "intercede.sock") }

func (d *Daemon) lxcSocket() string { return filepath.Join(d.sockets, "lxc.sock") }

// Program is the path of intercede.
func (d *Daemon) Program() string { return filepath.Join(d.programs, "intercede") }

// Plugins is the folder of the plugins' programs.
func (d *Daemon) Plugins() string { return d.plugins }

// Command is a command of intercede with the daemon's config.
func (d *Daemon) Command(name string, args ...string) *exec.Cmd {
	c := exec.Command(d.Program(), append([]string{name, "--config", d.Config()}, args...)...)
	c.Env = append(os.Environ(), "TMPDIR="+d.dir)
	return c
}

// end waits for the end of the daemon, which is there at last when all containers are gone.
func (d *Daemon) end() {
	d.Stop()
	<-d.exited
	if d.test.found || d.test.Failed() {
		d.test.Logf("the daemon's log:\n%s", &d.Log)
	}
}

// Stop ends the daemon with SIGTERM. One that does not end, or ended before, was harmed. A second call does nothing.
func (d *Daemon) Stop() {
	if d.stopped {
		return
	}
	d.stopped = true
	select {
	case <-d.exited:
		d.test.Fault("the daemon ended: %v", d.process.ProcessState)
		return
	default:
	}
	d.process.Process.Signal(unix.SIGTERM)
	select {
	case <-d.exited:
		if !d.process.ProcessState.Success() {
			d.test.Fault("the daemon ended with %v", d.process.ProcessState)
		}
	case <-time.After(Patience):
		d.test.Fault("the daemon does not end")
		d.process.Process.Kill()
	}
}

// Kill ends the daemon with SIGKILL. One that does not end is held up by the kernel, and so is the next one.
func (d *Daemon) Kill() {
	d.stopped = true
	d.process.Process.Kill()
	select {
	case <-d.exited:
	case <-time.After(Patience):
		d.test.Fault("the kernel holds up the end of the daemon")
	}
}

// Status is what `intercede status --json` prints.
type Status struct {
	PID     int `json:"pid"`
	Plugins []struct {
		Name     string `json:"name"`
		State    string `json:"state"`
		PID      int    `json:"pid"`
		Restarts int    `json:"restarts"`
	} `json:"plugins"`
	Containers []struct {
		ID       string `json:"id"`
		Inflight int    `json:"inflight"`
		Calls    uint64 `json:"calls"`
		Failures uint64 `json:"failures"`
	} `json:"containers"`
}

// TryStatus is nil if the daemon does not answer.
func (d *Daemon) TryStatus() *Status {
	output, _ := d.Command("status", "--json").Output() // it fails too while a plugin does not run
	s := &Status{}
	if json.Unmarshal(output, s) != nil {
		return nil
	}
	return s
}

// Status fails the test if the daemon does not answer.
func (d *Daemon) Status() *Status {
	d.test.Helper()
	s := d.TryStatus()
	if s == nil {
		d.test.Fatal("the daemon does not answer")
	}
	return s
}

// Plugin is the process of a plugin.
func (d *Daemon) Plugin(name string) (pid int) {
	d.test.Helper()
	for _, p := range d.Status().Plugins {
		if p.Name == name {
			return p.PID
		}
	}
	d.test.Fatalf("no plugin %s", name)
	return 0
}

// CheckPlugins notes plugins that died.
func (d *Daemon) CheckPlugins() {
	d.test.Helper()
	for _, p := range d.Status().Plugins {
		if p.Restarts > 0 {
			d.test.Fault("plugin %s was started again %d times", p.Name, p.Restarts)
		}
	}
}

// Log keeps the end of a log, and counts its bytes.
type Log struct {
	mu    sync.Mutex
	text  []byte
	total int
}

// logKept is how many bytes of a log are kept at least.
const logKept = 400 << 10

func (b *Log) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total += len(p)
	b.text = append(b.text, p...)
	if len(b.text) > 2*logKept {
		b.text = bytes.Clone(b.text[len(b.text)-logKept:])
	}
	return len(p), nil
}

func (b *Log) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}

// Bytes is how long the log is.
func (b *Log) Bytes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}
