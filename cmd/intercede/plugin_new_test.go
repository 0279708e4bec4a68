package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestNewPlugin goes a newcomer's way: a plugin is made, tested with a real kernel, built and tried.
func TestNewPlugin(t *testing.T) {
	sources, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	// A call of no other kind, one that every program makes, one behind socketcall(2), one of 32-bit programs.
	for _, syscall := range []string{"sethostname", "write", "connect", "stat64"} {
		t.Run(syscall, func(t *testing.T) {
			dir := t.TempDir()
			begun := time.Now()
			shell(t, dir, `intercede plugin new hello --syscall "$1" --sdk "$2"`, syscall, sources)
			hello := filepath.Join(dir, "hello")
			shell(t, hello, `go test .`)
			t.Logf("from plugin new to a test that passes: %v", time.Since(begun))
			if syscall == "sethostname" {
				r := shell(t, hello, `go vet . && go build && intercede plugin run ./intercede-plugin-hello -- sh -c 'hostname elsewhere || true'`)
				wantText(t, r.stderr, "] sethostname(", "= -1 EPERM (Operation not permitted) [hello")
			}
		})
	}
}

// shell runs a script, which must succeed, in a folder.
func shell(t *testing.T, dir, script string, args ...string) result {
	t.Helper()
	cmd := program()
	shell := exec.Command("sh", append([]string{"-ec", script, "sh"}, args...)...)
	shell.Dir, shell.Env = dir, append(cmd.Env, "PATH="+binaries+":"+os.Getenv("PATH"), "INTERCEDE_TEST_STRICT=1")
	r := runCmd(t, shell)
	if r.status != 0 {
		t.Fatalf("%s: status %d\n%s%s", script, r.status, r.stdout, r.stderr)
	}
	return r
}
