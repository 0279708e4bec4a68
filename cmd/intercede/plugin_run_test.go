package main

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/intercede/intercede/cmd/internal/cli"
	"golang.org/x/sys/unix"
)

// inTree is one of the project's plugins.
func inTree(name string) string { return filepath.Join(binaries, "intercede-plugin-"+name) }

// TestPluginRun has a plugin without a config answer the calls of a command, which are printed.
func TestPluginRun(t *testing.T) {
	for name, c := range map[string]struct {
		args   []string
		status int
		stdout string
		line   string // that standard error has
	}{
		"a call that the plugin makes": {
			[]string{inTree("mknod"), "--", "sh", "-c", "mknod -m 640 /tmp/null c 1 3; stat -c '%F %t:%T %a' /tmp/null"},
			0, "character special file 1:3 640\n",
			`\[pid \d+\] mknodat\(AT_FDCWD, "/tmp/null", S_IFCHR\|0640, makedev\(1, 3\)\) = 0 \[mknod\] <\d\.\d{6}>`,
		},
		"one that it leaves to the kernel": {
			[]string{inTree("mknod"), "--set", `devices=["c 1:5"]`, "--", "mknod", "/tmp/null", "c", "1", "3"},
			1, "", `mknodat\(AT_FDCWD, "/tmp/null", S_IFCHR\|0666, makedev\(1, 3\)\) = \? \(continue\)( \[mknod.*\])? <`,
		},
		"a hostile path": {
			[]string{inTree("mknod"), "--", "sh", "-c", `mknod "$(printf '/tmp/\033[2J\nx')" c 1 3`},
			0, "", `mknodat\(AT_FDCWD, "/tmp/\\33\[2J\\nx", S_IFCHR`,
		},
		"over gRPC": {
			[]string{inTree("mknod"), "--grpc", "--", "mknod", "/tmp/null", "c", "1", "3"},
			0, "", `mknodat\(AT_FDCWD, "/tmp/null", S_IFCHR\|0666, makedev\(1, 3\)\) = 0 \[mknod\]`,
		},
		"flags of the container": {
			[]string{inTree("sysinfo"), "--memory", "67108864", "--user", "33", "-w", "/tmp", "--", "sh", "-c", "pwd; id -u; exit 42"},
			42, "/tmp\n33\n", ``,
		},
		"no such command": {[]string{inTree("sysinfo"), "--", "/no/such"}, 127, "", `/no/such`},
	} {
		t.Run(name, func(t *testing.T) {
			r := intercede(t, append([]string{"plugin", "run"}, c.args...)...)
			if r.status != c.status || r.stdout != c.stdout {
				t.Errorf("status %d, want %d; %q, want %q", r.status, c.status, r.stdout, c.stdout)
			}
			if !regexp.MustCompile(c.line).MatchString(r.stderr) {
				t.Errorf("%s is not in:\n%s", c.line, r.stderr)
			}
			if regexp.MustCompile("\x1b\\[2J").MatchString(r.stderr) {
				t.Errorf("a terminal gets what the caller chose: %q", r.stderr)
			}
		})
	}
}

// TestPluginRunRefuses has what is wrong named as the user gave it, before a container is made.
func TestPluginRunRefuses(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no binary":       {[]string{filepath.Join(dir, "none")}, "none: no such file"},
		"not executable":  {[]string{text}, text + ": not executable"},
		"not a plugin":    {[]string{"/bin/true"}, "is it a plugin of intercede?"},
		"unknown setting": {[]string{inTree("mknod"), "--set", "device=1"}, "--set: device"},
		"bad setting":     {[]string{inTree("mknod"), "--set", `devices=["x"]`}, "--set: devices"},
		"bad log level":   {[]string{inTree("mknod"), "--log-level", "loud"}, "--log-level"},
	} {
		t.Run(name, func(t *testing.T) {
			r := intercede(t, append(append([]string{"plugin", "run"}, c.args...), "--", "echo", "run")...)
			if r.status != cli.ExitFailure && r.status != cli.ExitUsage || r.stdout != "" {
				t.Errorf("status %d, %q", r.status, r.stdout)
			}
			wantText(t, r.stderr, c.want)
		})
	}
	checkNoCopies(t)
}

// checkNoCopies fails if a copy of a plugin is left.
func checkNoCopies(t *testing.T) {
	t.Helper()
	if left, err := filepath.Glob(filepath.Join(binaries, "intercede-[0-9]*")); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// A signal goes to the command, and intercede ends with it and leaves nothing.
func TestPluginRunInterrupted(t *testing.T) {
	cmd := program("plugin", "run", inTree("sysinfo"), "--", "sh", "-c", "trap 'exit 7' TERM; echo begun; sleep 60 & wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	// While the container is still being started, the signal kills it.
	if got := cmd.ProcessState.ExitCode(); got != 7 && got != 128+int(unix.SIGKILL) {
		t.Errorf("status %d, want 7", got)
	}
	checkNoCopies(t)
}
