package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk/sdktest"
)

// TestNewPlugin goes a newcomer's way: a plugin is made, tested with a real kernel, built and tried.
func TestNewPlugin(t *testing.T) {
	sources, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	// An ordinary call, one that every program makes, one that i386 makes by socketcall(2), and one of 32-bit programs.
	for _, test := range []struct{ language, syscall string }{
		{"go", "sethostname"}, {"go", "write"}, {"go", "connect"}, {"go", "stat64"}, {"c", "sethostname"}, {"c", "stat64"},
	} {
		t.Run(test.language+"/"+test.syscall, func(t *testing.T) {
			dir := t.TempDir()
			begun := time.Now()
			shell(t, dir, `intercede plugin new hello --syscall "$1" --lang "$2" --sdk "$3"`, test.syscall, test.language, sources)
			hello := filepath.Join(dir, "hello")
			shell(t, hello, `go test .`)
			t.Logf("from plugin new to a test that passes: %v", time.Since(begun))
			if test.syscall == "sethostname" {
				r := shell(t, hello, `go vet . && go build && intercede plugin run ./intercede-plugin-hello -- sh -c 'hostname elsewhere || true'`)
				wantText(t, r.stderr, "] sethostname(", "= -1 EPERM (Operation not permitted) [hello: refused] <")
				checkPage(t, hello)
			}
		})
	}
}

// TestNewPythonPlugin goes the same way with a plugin in Python.
func TestNewPythonPlugin(t *testing.T) {
	require(t, "protoc", "make")
	if err := exec.Command("/usr/bin/python3", "-c", "import grpc").Run(); err != nil {
		sdktest.Lacking(t, "Debian's python3-grpcio: %v", err)
	}
	for _, syscall := range []string{"sethostname", "getcwd"} {
		t.Run(syscall, func(t *testing.T) {
			dir := t.TempDir()
			begun := time.Now()
			shell(t, dir, `intercede plugin new hello --syscall "$1" --lang python`, syscall)
			hello := filepath.Join(dir, "hello")
			shell(t, hello, `make`)
			shell(t, hello, `make test`)
			t.Logf("from plugin new to a test that passes: %v", time.Since(begun))
			checkPage(t, hello)
		})
	}
}

// checkPage checks the page of a plugin that is built in its folder.
func checkPage(t *testing.T, dir string) {
	t.Helper()
	page := filepath.Join(dir, "README.md")
	checkSections(t, page)
	checkExamples(t, newSite(t, ""), page, "--plugin-dir", dir)
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
