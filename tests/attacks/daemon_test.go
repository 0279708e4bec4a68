package attacks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds every wait for what must happen soon; only a failing test takes as long.
const patience = 30 * time.Second

// daemon is a running `intercede serve`, with a folder for its config and sockets.
type daemon struct {
	attack   *attack
	programs string // production or delayed
	dir      string
	process  *exec.Cmd
	exited   chan struct{}
	stopped  bool
	log      logBuffer
}

// setup says how a daemon is started.
type setup struct {
	programs string   // production by default
	config   string   // of the plugins
	broker   string   // further lines of [broker]
	delays   string   // see internal/pause
	wrapper  []string // a command that executes the daemon: what follows it are the daemon's words
	open     bool     // any user of the host may connect to its socket for OCI runtimes
}

// everything enables every plugin. sched and bpf are off by default.
const everything = `
[plugins.mknod]
[plugins.sysinfo]
[plugins.setxattr]
[plugins.setxattr.config]
read = true
[plugins.sched]
[plugins.sched.config]
min_nice = -10
[plugins.bpf]
[plugins.bpf.config]
devices = true
[plugins.mount]
[plugins.mount.config]
allowed = ["ext4"]
shift = true
fuse = { squashfs = "/bin/exec" }
`

// serve starts a daemon and waits until it answers. It ends with the test, and must end well.
func (a *attack) serve(s setup) *daemon {
	a.Helper()
	dir, err := os.MkdirTemp("", "ic")
	if err != nil {
		a.Fatal(err)
	}
	a.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil { // plugins and users have their way through it
		a.Fatal(err)
	}
	if s.programs == "" {
		s.programs = production
	}
	d := &daemon{attack: a, programs: s.programs, dir: dir, exited: make(chan struct{})}
	text := fmt.Sprintf("[broker]\nsocket = %q\nlxc_socket = %q\ncontrol = %q\nplugin_dir = %q\n%s\n%s", d.socket(), d.lxcSocket(),
		dir+"/control", s.programs, s.broker, s.config)
	if err := os.WriteFile(d.config(), []byte(text), 0o644); err != nil {
		a.Fatal(err)
	}
	words := append(s.wrapper, filepath.Join(s.programs, "intercede"), "serve", "--config", d.config())
	d.process = exec.Command(words[0], words[1:]...)
	d.process.Env = append(os.Environ(), "TMPDIR="+dir, "INTERCEDE_DELAYS="+s.delays)
	d.process.Stderr = &d.log
	endWithTests(d.process)
	if err := d.process.Start(); err != nil {
		a.Fatal(err)
	}
	go func() {
		d.process.Wait()
		close(d.exited)
	}()
	a.Cleanup(d.end)
	a.eventually("the daemon answers", func() bool {
		select {
		case <-d.exited:
			a.Fatalf("the daemon does not start:\n%s", &d.log)
		default:
		}
		return d.tryStatus() != nil
	})
	if s.open {
		if err := os.Chmod(d.socket(), 0o666); err != nil {
			a.Fatal(err)
		}
	}
	return d
}

func (d *daemon) config() string    { return filepath.Join(d.dir, "config.toml") }
func (d *daemon) socket() string    { return filepath.Join(d.dir, "oci") }
func (d *daemon) lxcSocket() string { return filepath.Join(d.dir, "lxc") }

// command is a command of intercede with the daemon's config.
func (d *daemon) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(d.programs, "intercede"), append([]string{name, "--config", d.config()}, args...)...)
	c.Env = append(os.Environ(), "TMPDIR="+d.dir)
	return c
}

// end waits for the end of the daemon, which is there at last when all containers are gone.
func (d *daemon) end() {
	d.stop()
	<-d.exited
	if len(d.attack.found) > 0 || d.attack.Failed() {
		d.attack.Logf("the daemon's log:\n%s", &d.log)
	}
}

// stop ends the daemon with SIGTERM. One that does not end, or ended before, was harmed. A second call does nothing.
func (d *daemon) stop() {
	if d.stopped {
		return
	}
	d.stopped = true
	select {
	case <-d.exited:
		d.attack.succeeded("the daemon ended: %v", d.process.ProcessState)
		return
	default:
	}
	d.process.Process.Signal(unix.SIGTERM)
	select {
	case <-d.exited:
		if !d.process.ProcessState.Success() {
			d.attack.succeeded("the daemon ended with %v", d.process.ProcessState)
		}
	case <-time.After(patience):
		d.attack.succeeded("the daemon does not end")
		d.process.Process.Kill()
	}
}

// status is what `intercede status --json` prints.
type status struct {
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

// tryStatus is nil if the daemon does not answer.
func (d *daemon) tryStatus() *status {
	output, err := d.command("status", "--json").Output()
	s := &status{}
	if err != nil || json.Unmarshal(output, s) != nil {
		return nil
	}
	return s
}

func (d *daemon) status() *status {
	d.attack.Helper()
	s := d.tryStatus()
	if s == nil {
		d.attack.Fatal("the daemon does not answer")
	}
	return s
}

func (d *daemon) plugin(name string) (pid int) {
	d.attack.Helper()
	for _, p := range d.status().Plugins {
		if p.Name == name {
			return p.PID
		}
	}
	d.attack.Fatalf("no plugin %s", name)
	return 0
}

// checkPlugins notes plugins that died.
func (d *daemon) checkPlugins() {
	d.attack.Helper()
	for _, p := range d.status().Plugins {
		if p.Restarts > 0 {
			d.attack.succeeded("plugin %s was started again %d times", p.Name, p.Restarts)
		}
	}
}

// eventually waits for something that comes without a signal.
func (a *attack) eventually(what string, done func() bool) {
	a.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	a.Fatalf("it never came that %s", what)
}

// logBuffer keeps the end of a log, and counts its bytes.
type logBuffer struct {
	mu    sync.Mutex
	text  []byte
	total int
}

// logKept is how many bytes of a log are kept at least.
const logKept = 4 << 10

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total += len(p)
	b.text = append(b.text, p...)
	if len(b.text) > 2*logKept {
		b.text = bytes.Clone(b.text[len(b.text)-logKept:])
	}
	return len(p), nil
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}

// bytes is how long the log is.
func (b *logBuffer) bytes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}
