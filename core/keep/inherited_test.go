package keep

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/require"
	"golang.org/x/sys/unix"
)

func init() { roles["inherit"] = showInherited }

// showInherited prints what this process was started with. Its arguments set the variables of the environment, as seen
// by a process that knows its pid.
func showInherited() {
	for _, assignment := range os.Args[1:] {
		if name, value, ok := strings.Cut(assignment, "="); ok {
			os.Setenv(name, strings.ReplaceAll(value, "SELF", strconv.Itoa(os.Getpid())))
		}
	}
	descriptors, err := Inherited()
	for _, d := range descriptors {
		flags, _ := unix.FcntlInt(d.File.Fd(), unix.F_GETFD, 0)
		target, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", d.File.Fd()))
		kind, _, _ := strings.Cut(target, ":")
		fmt.Printf("%s %d cloexec=%v %s\n", d.Name, d.File.Fd(), flags == unix.FD_CLOEXEC, kind)
	}
	if err != nil {
		fmt.Println("error:", err)
	}
	again, err := Inherited()
	if len(again) > 0 || err != nil {
		fmt.Println("twice:", again, err)
	}
	for _, name := range []string{listenPID, listenFDs, listenNames} {
		if value, set := os.LookupEnv(name); set {
			fmt.Println("left:", name, value)
		}
	}
}

func TestInherited(t *testing.T) {
	many := strings.Repeat(":x", 9)
	for name, test := range map[string]struct {
		variables string
		want      string
	}{
		"nothing":               {"", ""},
		"two":                   {"LISTEN_PID=SELF LISTEN_FDS=2 LISTEN_FDNAMES=r.1:a", "r.1 3 cloexec=true pipe\na 4 cloexec=true pipe\n"},
		"without names":         {"LISTEN_PID=SELF LISTEN_FDS=1", "unknown 3 cloexec=true pipe\n"},
		"another process's":     {"LISTEN_PID=1 LISTEN_FDS=2 LISTEN_FDNAMES=a:b", ""},
		"none":                  {"LISTEN_PID=SELF LISTEN_FDS=0 LISTEN_FDNAMES=", ""},
		"no number":             {"LISTEN_PID=SELF LISTEN_FDS=2x", `error: LISTEN_FDS="2x": want a number from 0 to 1048576` + "\n"},
		"negative":              {"LISTEN_PID=SELF LISTEN_FDS=-1", `error: LISTEN_FDS="-1": want a number from 0 to 1048576` + "\n"},
		"too many":              {"LISTEN_PID=SELF LISTEN_FDS=99999999", `error: LISTEN_FDS="99999999": want a number from 0 to 1048576` + "\n"},
		"no pid":                {"LISTEN_PID=me LISTEN_FDS=2", `error: LISTEN_PID="me": want a process ID` + "\n"},
		"too few names":         {"LISTEN_PID=SELF LISTEN_FDS=2 LISTEN_FDNAMES=a", "error: LISTEN_FDNAMES has 1 names for 2 descriptors\n"},
		"one that is not there": {"LISTEN_PID=SELF LISTEN_FDS=10 LISTEN_FDNAMES=x" + many, "error: LISTEN_FDS=10, but descriptor "},
	} {
		t.Run(name, func(t *testing.T) {
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer read.Close()
			defer write.Close()
			cmd := exec.Command("/proc/self/exe", strings.Fields(test.variables)...)
			cmd.Env = append(os.Environ(), roleVariable+"=inherit")
			cmd.ExtraFiles = []*os.File{read, write}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if got := string(out); got != test.want && (!strings.Contains(test.want, "descriptor ") || !strings.HasPrefix(got, test.want)) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestSocketActivation takes sockets from systemd's own program for that.
func TestSocketActivation(t *testing.T) {
	program, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		require.Lacking(t, "needs systemd-socket-activate: %v", err)
	}
	dir := shortDir(t)
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-E", roleVariable+"=inherit", "-l", a, "-l", b, "--fdname=one:two", self)
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	deadline := time.Now().Add(30 * time.Second)
	for {
		connected := dialOnce(b) == nil
		if connected || time.Now().After(deadline) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if want := "one 3 cloexec=true socket\ntwo 4 cloexec=true socket\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
