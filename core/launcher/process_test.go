package launcher_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// status reads the lines of /proc/PID/status.
func status(t *testing.T, pid int) map[string]string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		lines[key] = strings.Join(strings.Fields(value), " ")
	}
	return lines
}

// TestSandbox looks at plugins' processes from outside.
func TestSandbox(t *testing.T) {
	seen := map[string]bool{}
	for name, capabilities := range map[string]uint64{"trial": 0, "trial_mknod": 1 << unix.CAP_MKNOD} {
		t.Run(name, func(t *testing.T) {
			pid := start(t, name).Status().PID
			lines := status(t, pid)
			for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
				if lines[set] != fmt.Sprintf("%016x", capabilities) {
					t.Errorf("%s is %s, want %016x", set, lines[set], capabilities)
				}
			}
			if lines["Seccomp"] != "2" || lines["Seccomp_filters"] != "1" {
				t.Errorf("Seccomp %q, %q filters", lines["Seccomp"], lines["Seccomp_filters"])
			}
			if lines["NoNewPrivs"] != "1" || lines["Groups"] != "" || lines["Umask"] != "0077" {
				t.Errorf("NoNewPrivs %q, Groups %q, Umask %q", lines["NoNewPrivs"], lines["Groups"], lines["Umask"])
			}
			ids := strings.Fields(lines["Uid"])
			if ids[0] == "0" || lines["Uid"] != lines["Gid"] || !slices.Equal(ids, slices.Repeat(ids[:1], 4)) {
				t.Errorf("Uid %q, Gid %q", lines["Uid"], lines["Gid"])
			}
			if seen[lines["Uid"]] {
				t.Error("another plugin has the same user")
			}
			seen[lines["Uid"]] = true
			checkNotDumpable(t, pid)
			checkEnvironment(t, pid)
			checkDescriptors(t, pid)
			checkLimits(t, pid)
			checkNamespaces(t, pid)
		})
	}
}

// checkNotDumpable: the files of a process that is not dumpable belong to root (proc_pid(5)).
func checkNotDumpable(t *testing.T, pid int) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/fd", pid), &st); err != nil || st.Uid != 0 {
		t.Errorf("/proc/PID/fd belongs to user %d (%v)", st.Uid, err)
	}
}

func checkEnvironment(t *testing.T, pid int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		t.Fatal(err)
	}
	known := []string{"PATH", "LANG", "TMPDIR", "GOMAXPROCS", wire.LifelineEnv, wire.LanesEnv, wire.Handshake.MagicCookieKey}
	for pair := range strings.SplitSeq(strings.TrimRight(string(text), "\x00"), "\x00") {
		key, _, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(key, "PLUGIN_") && !strings.Contains(strings.Join(known, " "), key) {
			t.Errorf("the environment has %s", pair)
		}
	}
}

// checkDescriptors: standard input is a pipe, the lifeline a socket, and nothing names a file of the broker's.
func checkDescriptors(t *testing.T, pid int) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		link, err := os.Readlink(dir + entry.Name())
		if errors.Is(err, os.ErrNotExist) {
			continue // it was closed meanwhile
		}
		kind, _, _ := strings.Cut(link, ":")
		allowed := kind == "pipe" || kind == "socket" || kind == "anon_inode" ||
			strings.HasPrefix(link, "/sys/fs/cgroup/") // the Go runtime reads its CPU limit
		if !allowed {
			t.Errorf("descriptor %s is %s", entry.Name(), link)
		}
	}
}

func checkLimits(t *testing.T, pid int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok && strings.Join(strings.Fields(rest), " ") != "0 0 bytes" {
			t.Errorf("core dumps: %s", rest)
		}
	}
}

// TestManifestSandbox has a broker whose descriptors are inherited by what it starts: the program that prints the
// manifest has none of them.
func TestManifestSandbox(t *testing.T) {
	sdktest.RequireRoot(t)
	secret := binary(t, "secret", []byte("secret"), 0o600)
	var files []*os.File
	for range 6 {
		file, err := os.Open(secret)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		files = append(files, file)
	}
	_, said := startBroker(t, testplugin.Install(t, "bad_descriptors"), files...)
	if !strings.Contains(said, "1=pipe") || strings.Contains(said, "secret\n") {
		t.Errorf("the program has the descriptors\n%s", said)
	}
}

// TestBrokerKilled kills a broker: its plugin's process ends, also one that cannot act any more.
func TestBrokerKilled(t *testing.T) {
	sdktest.RequireRoot(t)
	for name, before := range map[string]func(int){
		"running": func(int) {},
		"stopped": func(pid int) { kill(t, pid, unix.SIGSTOP) },
	} {
		t.Run(name, func(t *testing.T) {
			broker, said := startBroker(t, testplugin.Install(t, "trial"))
			pid, err := strconv.Atoi(said)
			if err != nil {
				t.Fatal(said)
			}
			before(pid)
			broker.Process.Kill()
			broker.Wait()
			eventually(t, "the plugin is gone", func() bool { return gone(pid) })
		})
	}
}

// TestStop stops plugins that do not end by themselves.
func TestStop(t *testing.T) {
	for name, before := range map[string]func(*testing.T, int){
		"running": func(*testing.T, int) {},
		"stopped": func(t *testing.T, pid int) { kill(t, pid, unix.SIGSTOP) },
		"dead":    func(t *testing.T, pid int) { kill(t, pid, unix.SIGKILL) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, "trial")
			pid := p.Status().PID
			before(t, pid)
			p.Stop()
			eventually(t, "the process is gone", func() bool { return gone(pid) })
			if s := p.Status(); s.State != "stopped" || s.PID != 0 {
				t.Errorf("status %+v", s)
			}
			if err := newSession(p, "", "{}").Attach(t.Context()); err == nil {
				t.Error("it attaches a container")
			}
			p.Stop()
		})
	}
}

// TestRestart kills a plugin again and again.
func TestRestart(t *testing.T) {
	t.Parallel()
	p := start(t, "trial")
	for i := range 3 {
		pid := p.Status().PID
		kill(t, pid, unix.SIGKILL)
		eventually(t, "another process runs", func() bool {
			s := p.Status()
			return s.State == "running" && s.PID != pid
		})
		if s := p.Status(); s.Restarts != i+1 || !strings.Contains(s.Error, fmt.Sprintf("process %d ended", pid)) {
			t.Errorf("status %+v", s)
		}
	}
}

// TestRestartAfterReplacement removes and replaces the binary while the plugin runs: the next run is of the first one.
func TestRestartAfterReplacement(t *testing.T) {
	t.Parallel()
	p := start(t, "trial")
	path := manifestPath(t, p)
	spec := specOf(path)
	if !p.IsCurrent(spec, p.Manifest()) {
		t.Error("the plugin is not what would be started")
	}
	for _, name := range []string{"removed", "replaced"} {
		os.Remove(path)
		if name == "replaced" {
			if err := os.WriteFile(path, []byte("#!/bin/false\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		restarts := p.Status().Restarts
		kill(t, p.Status().PID, unix.SIGKILL)
		eventually(t, "it runs again when its binary was "+name, func() bool {
			s := p.Status()
			return s.State == launcher.Running && s.Restarts > restarts
		})
		if err := newSession(p, name, `{"gate":"","refuse":"","attach":"","switch":""}`).Attach(t.Context()); err != nil {
			t.Error(err)
		}
		if p.IsCurrent(spec, p.Manifest()) {
			t.Errorf("the binary was %s, and is the same", name)
		}
	}
}

// manifestPath is where the plugin's binary is: argv[0] of its process.
func manifestPath(t *testing.T, p *launcher.Plugin) string {
	t.Helper()
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.Status().PID), "cmdline"))
	if err != nil {
		t.Fatal(err)
	}
	name, _, _ := strings.Cut(string(line), "\x00")
	return name
}

func TestRefusedContainer(t *testing.T) {
	t.Parallel()
	p := start(t, "trial")
	s := newSession(p, "c", `{"gate":"","refuse":"`+strings.Repeat("no ", 10000)+`","attach":""}`)
	defer s.Close()
	err := s.Attach(t.Context())
	if !errors.Is(err, launcher.ErrRefused) || len(err.Error()) > 2000 {
		t.Errorf("got %v", err)
	}
	if err := newSession(p, "c", `{"color":1}`).Attach(t.Context()); !errors.Is(err, launcher.ErrRefused) {
		t.Errorf("unknown settings: %v", err)
	}
}

// TestNobodyElsesSocket checks that only root and the plugin reach the plugin's socket.
func TestNobodyElsesSocket(t *testing.T) {
	p := start(t, "trial")
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.Status().PID))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "TMPDIR=")
	dir, _, _ := strings.Cut(rest, "\x00")
	info, err := os.Stat(fmt.Sprintf("/proc/%d/root%s", p.Status().PID, dir))
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; info.Mode().Perm() != 0o700 || uid == 0 {
		t.Errorf("%s: %v of user %d", dir, info.Mode(), uid)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is on the host: %v", dir, err)
	}
}

// checkNamespaces checks that the plugin is in namespaces of its own.
func checkNamespaces(t *testing.T, pid int) {
	t.Helper()
	for _, name := range []string{"net", "ipc", "uts", "mnt"} {
		ours, err1 := os.Readlink("/proc/self/ns/" + name)
		theirs, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, name))
		if err1 != nil || err2 != nil || ours == theirs {
			t.Errorf("%s: ours %s, the plugin's %s, %v, %v", name, ours, theirs, err1, err2)
		}
	}
}

// TestChangedInPlace changes the binary in place while the plugin is down: one that is new in its version alone goes
// on, any other does not run until the config is read anew.
func TestChangedInPlace(t *testing.T) {
	sdktest.RequireRoot(t)
	for change, want := range map[testplugin.Change]string{
		testplugin.NewVersion: "", testplugin.OtherTakes: "intercede reload", testplugin.AsksMore: "intercede reload",
	} {
		path := testplugin.Install(t, "trial")
		testplugin.Upgrade(t, path, "")
		spec := specOf(path)
		manifest, err := launcher.ReadManifest(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		p, err := launcher.Start(t.Context(), spec, manifest, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Stop)
		eventually(t, "no process executes it", func() bool {
			if pid := p.Status().PID; pid != 0 {
				unix.Kill(pid, unix.SIGKILL)
			}
			err := testplugin.ChangeInPlace(path, change)
			if err != nil && !errors.Is(err, unix.ETXTBSY) {
				t.Fatal(err)
			}
			return err == nil
		})
		eventually(t, "it is told what to do", func() bool {
			s := p.Status()
			if want == "" {
				return s.State == launcher.Running && s.Version == "2"
			}
			return s.State == launcher.BackingOff && strings.Contains(s.Error, want)
		})
	}
}
