package broker

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/intercede/intercede/core/grant"
	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// What the old plugin does: see testdata/oldplugin/server.go.
const (
	oldValue = iota + 101
	oldErrno
	oldContinue
	oldWrite
	oldAddFD
	oldRead
	oldCredentials
	oldDirectory
	oldDescriptor
	oldValid
	oldKeep
	oldKept
	oldGreeting
	oldFail
	oldDie
)

// oldMagic is what the last register of a call is that the old plugin takes.
const oldMagic = 29

// startOld builds the old plugin and starts it.
func startOld(t *testing.T, b *bench) *launcher.Plugin {
	t.Helper()
	dir, err := os.MkdirTemp("", "old")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := dir + "/intercede-plugin-old"
	buildOld(t, path)
	spec := launcher.Spec{Name: "old", Path: path, Grant: grant.Everything(), GRPC: testplugin.WithoutLanes()}
	manifest, err := launcher.ReadManifest(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	p, err := launcher.Start(t.Context(), spec, manifest, b.log.logger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// buildOld builds testdata/oldplugin. On machines without Go, INTERCEDE_TEST_PROGRAM is the program.
func buildOld(t *testing.T, path string) {
	t.Helper()
	build := exec.Command("go", "build", "-o", path, ".")
	build.Dir, build.Env = "testdata/oldplugin", append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if built := os.Getenv("INTERCEDE_TEST_PROGRAM"); built != "" {
		build = exec.Command("install", built, path)
	}
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, output)
	}
}

// TestFeatures has the broker say what it has to a plugin of today.
func TestFeatures(t *testing.T) {
	t.Parallel()
	c := newBench(t, options{}).attach(t)
	want(t, ask(t, c, testplugin.Features), int64(len(wire.Features())), 0)
}

// TestOldPlugin has this broker serve a plugin that was built on the first state of the protocol, before one of today.
// Where it fails, the change breaks plugins that others have installed: docs/plugins/versioning.md.
func TestOldPlugin(t *testing.T) {
	b := newBench(t, options{})
	b.plugins["old"] = startOld(t, b)
	g := b.newGeneration(options{plugins: []string{"old", "trial"}})
	g.Bindings[0].Settings = `{"names": true, "greeting": "good morning"}`
	b.SetGeneration(g)
	c := b.attach(t)
	memory := c.Map(t)
	c.Poke(t, memory.Page, 0x42, 1)
	inode := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return int64(info.Sys().(*syscall.Stat_t).Ino)
	}
	call := func(what uint64, parameter uint64) testcaller.Result {
		return c.Call(t, unix.SYS_GETPPID, what, parameter, 0, 0, 0, oldMagic)
	}
	for _, test := range []struct {
		name      string
		what      uint64
		parameter uint64
		value     int64
		errno     syscall.Errno
	}{
		{"value", oldValue, 42, 42, 0},
		{"errno", oldErrno, uint64(unix.EXDEV), 0, unix.EXDEV},
		{"continue", oldContinue, 0, realPPID, 0},
		{"write", oldWrite, memory.Page + 1, 7, 0},
		{"write where it cannot", oldWrite, memory.ReadOnly, 0, unix.EFAULT},
		{"read", oldRead, memory.Page, 0x42, 0},
		{"read what was written", oldRead, memory.Page + 1, 0x5a, 0},
		{"read nothing", oldRead, memory.None, 0, unix.EFAULT},
		{"credentials", oldCredentials, 0, testcaller.FirstID, 0},
		{"directory", oldDirectory, 0, inode("/"), 0},
		{"descriptor", oldDescriptor, 0, inode(os.DevNull), 0},
		{"valid", oldValid, 0, 1, 0},
		{"kept before", oldKept, 0, 0, 0},
		{"keep", oldKeep, 0, 0, 0},
		{"settings", oldGreeting, 0, int64(len("good morning")), 0},
		{"failure", oldFail, 0, 0, unix.EIO},
		{"death", oldDie, 0, 1, 0},
		{"kept", oldKept, 0, 3, 0},
		{"next", 1, 0, realPPID, 0}, // which does not want it either
	} {
		t.Run(test.name, func(t *testing.T) { want(t, call(test.what, test.parameter), test.value, test.errno) })
	}
	if added := call(oldAddFD, 0); added.Errno != 0 || added.Value < 3 {
		t.Errorf("a descriptor: %+v", added)
	}
	want(t, c.Call(t, unix.SYS_SETHOSTNAME, memory.Page, 5), 5, 0)
	want(t, ask(t, c, testplugin.Return, 42), 42, 0)
	if s := b.plugins["old"].Status(); s.Restarts != 1 {
		t.Errorf("%d restarts", s.Restarts)
	}
}
