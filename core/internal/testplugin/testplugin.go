// Package testplugin is a plugin for tests: a process of its own, started by the real launcher from the test's own
// binary. What it does with a call, the call's arguments say.
//
// It takes getppid(2), which has no arguments for the kernel, with an Op in the first register; sethostname(2), whose
// memory it declares to read; and chdir(2), a path.
package testplugin

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk"
)

// Op is what the plugin does with a getppid call; the other registers are its parameters. Unless register 3 is 0 it
// waits at the gate first.
type Op uint64

const (
	Return       Op = iota + 1 // the value of register 1
	Errno                      // that of register 1
	Continue                   //
	Next                       //
	Error                      // a Go error
	LieGone                    // an error that says that the caller is gone, which it is not
	Panic                      //
	Explain                    // next, with the reason "trial" and a text of register 1 newlines
	ExplainOther               // EXDEV, with a reason that the manifest does not have
	Exit                       // the process, with status 3
	CrashLater                 // a panic of another goroutine, which no recover can catch
	Zero                       // the zero Response
	Write                      // register 2 times the byte 0x5a to the address of register 1, and value 7
	AddFD                      // the gate's socket, which the caller can write to; register 1: close on exec
	AddBadFD                   // a descriptor that is not open
	Read                       // value: the byte at the address of register 1, or the errno
	Hold                       // until the gate opens, or the context ends
	Ignore                     // until the gate opens, whatever the context
	Shout                      // register 1 lines of 1000 bytes on standard output, error and descriptor 2 each, and value 0
	Allocate                   // register 1 MiB, written to, and value 0
	CloseServer                // closes every socket of the process, but its lanes if register 1 is set; it lives on
	Identify                   // value: the process id
	ExitOnce                   // the process, unless an earlier one has died with the call; then the value of register 1
	ExitDone                   // the process; Check finds the call done, with the value of register 1
	Keep                       // register 2 bytes under the key that is register 1 in decimal, and value 0, or EDQUOT
	Forget                     // that key, and value 0
	Kept                       // value: how many bytes are kept under the key, or ENODATA
	Speak                      // in every way into the log, register 1 times, and value 0
	Features                   // value: how many the broker says that it has
)

const (
	prefix = wire.BinaryPrefix

	// transportEnv, set to "grpc" for a test, has calls go over gRPC, see WithoutLanes.
	transportEnv = "INTERCEDE_TEST_TRANSPORT"
)

// Init becomes the plugin if this process was started as one, and does not return then. TestMain calls it after
// sandbox.Init.
func Init() {
	name, ok := strings.CutPrefix(filepath.Base(os.Args[0]), prefix)
	if !ok {
		return
	}
	if strings.HasPrefix(name, "bad") {
		misbehave(name)
	}
	sdk.Serve(&handler{name: name, change: change()})
}

// WithoutLanes reports whether calls are to go over gRPC in this run of the tests, as to a plugin in another language.
func WithoutLanes() bool { return os.Getenv(transportEnv) == "grpc" }

// Install makes a binary of the plugin, named so, and gives its path. A name that begins with "bad" is that of a
// program that is none, see misbehave.
func Install(t testing.TB, name string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "plugin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, prefix+name)
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Upgrade replaces the plugin's binary by one that says something else in its manifest.
func Upgrade(t testing.TB, path string, change Change) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	defer holdForks()()
	if err := os.WriteFile(path, append(text, change...), 0o755); err != nil {
		t.Fatal(err)
	}
}

// holdForks has no process start until release: one that another test starts would have the file that is written until
// it executes its program, and nobody could execute the file meanwhile (ETXTBSY).
func holdForks() (release func()) {
	syscall.ForkLock.RLock()
	return syscall.ForkLock.RUnlock
}

// Change is what another binary says. It is the binary's last bytes, all of which have the same length.
type Change string

// ChangeInPlace changes a binary that Upgrade has made, when no process executes it.
func ChangeInPlace(path string, change Change) error {
	defer holdForks()()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err // ETXTBSY: a process does
	}
	defer file.Close()
	_, err = file.WriteString(string(change))
	return err
}

const (
	NewVersion Change = "\x00new version\x00" // it has version 2
	AsksMore   Change = "\x00asks more  \x00" // and asks for CAP_CHOWN
	OtherTakes Change = "\x00takes other\x00" // and takes one syscall more
)

// change is what this binary says; empty: what Install made it say.
func change() Change {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return ""
	}
	defer self.Close()
	last := make([]byte, len(NewVersion))
	info, err := self.Stat()
	if err != nil {
		return ""
	}
	if _, err := self.ReadAt(last, info.Size()-int64(len(last))); err != nil {
		return ""
	}
	if c := Change(last); c == NewVersion || c == AsksMore || c == OtherTakes {
		return c
	}
	return ""
}
