package launcher_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/core/grant"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/internal/sandbox"
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	becomeHostile()
	testplugin.Init()
	if path := os.Getenv(brokerMark); path != "" {
		brokerMain(path)
	}
	os.Exit(m.Run())
}

// brokerMark makes the test binary a broker of its own with the plugin whose path it is: see startBroker.
const brokerMark = "INTERCEDE_TEST_BROKER"

// startBroker starts a process that starts the plugin, which inherits files. Its standard output says the plugin's
// process id, or why it could not start.
func startBroker(t *testing.T, path string, files ...*os.File) (broker *exec.Cmd, said string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "broker") // one that is killed leaves its plugin's folder
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	broker = exec.Command("/proc/self/exe")
	broker.Env = append(os.Environ(), brokerMark+"="+path, "TMPDIR="+dir)
	broker.ExtraFiles = files
	broker.Stderr = os.Stderr
	out, err := broker.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		broker.Process.Kill()
		broker.Wait()
	})
	text := make([]byte, 4096)
	n, err := out.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	return broker, string(text[:n])
}

func brokerMain(path string) {
	spec := specOf(path)
	manifest, err := launcher.ReadManifest(context.Background(), spec)
	if err != nil {
		fmt.Print(err)
		os.Exit(1)
	}
	p, err := launcher.Start(context.Background(), spec, manifest, zerolog.Nop())
	if err != nil {
		fmt.Print(err)
		os.Exit(1)
	}
	fmt.Print(p.Status().PID)
	select {}
}

// specOf names the plugin at path as its binary says.
func specOf(path string) launcher.Spec {
	return launcher.Spec{Name: path[strings.LastIndex(path, "-")+1:], Path: path, Grant: grant.Everything(), GRPC: testplugin.WithoutLanes()}
}

// start starts a plugin that ends with the test.
func start(t *testing.T, name string) *launcher.Plugin {
	t.Helper()
	sdktest.RequireRoot(t)
	spec := specOf(testplugin.Install(t, name))
	manifest, err := launcher.ReadManifest(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	p, err := launcher.Start(t.Context(), spec, manifest, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// nothing is kept.
func nothing() []*wire.Entry { return nil }

// nobody counts nothing.
type nobody struct{}

func (nobody) Kept()     {}
func (nobody) Returned() {}

func newSession(p *launcher.Plugin, container, settings string) *launcher.Session {
	return p.NewSession(&wire.Container{Id: container}, settings, nobody{}, nothing)
}

// eventually waits until what is said is true.
func eventually(t *testing.T, what string, true func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !true(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come true that %s", what)
		}
	}
}

// gone reports whether the process has ended, reaped or not.
func gone(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(text), ") Z ")
}

func kill(t *testing.T, pid int, signal unix.Signal) {
	t.Helper()
	if err := unix.Kill(pid, signal); err != nil {
		t.Fatal(err)
	}
}
