package container

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/cgroup"
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
	protobuf "google.golang.org/protobuf/proto"
)

func TestMain(m *testing.M) {
	testcaller.Init()
	os.Exit(m.Run())
}

func inspectContainer(t *testing.T, claim Claim) *Container {
	t.Helper()
	c, err := Inspect(claim)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestInspect(t *testing.T) {
	caller := testcaller.Start(t, 0)
	claim := Claim{ID: "box", Runtime: "test", Annotations: map[string]string{"a": "b"}, PID: caller.PID}
	c := inspectContainer(t, claim)
	user, err := target.StatNamespace(filepath.Join("/proc", strconv.Itoa(caller.PID), "ns/user"))
	if err != nil {
		t.Fatal(err)
	}
	if c.ID != "box" || c.Runtime != "test" || c.InitPID != caller.PID || c.UserNamespace != user || c.Privileged {
		t.Errorf("got %+v", c)
	}
	cgroups, err := cgroup.Read("/proc/self/cgroup") // it was started in ours
	if err != nil {
		t.Fatal(err)
	}
	ids := []*wire.IDMapping{{Inside: 0, Outside: testcaller.FirstID, Length: 65536}}
	want := &wire.Container{
		Id: "box", Runtime: "test", Annotations: claim.Annotations, InitPid: int32(caller.PID),
		UserNamespaceDev: user.Dev, UserNamespaceIno: user.Ino, UidMap: ids, GidMap: ids, Cgroups: cgroups,
		CgroupShared: capture.CgroupShared(cgroups), // other processes of the host may be there
	}
	if !protobuf.Equal(c.Wire(), want) {
		t.Errorf("on the wire %v, want %v", c.Wire(), want)
	}
}

// TestInspectSession inspects by a process that is not the container's first, as some runtimes name one.
func TestInspectSession(t *testing.T) {
	caller := testcaller.Start(t, 2)
	first := inspectContainer(t, Claim{PID: caller.PID})
	for _, session := range caller.Session {
		c := inspectContainer(t, Claim{PID: session.PID})
		if c.InitPID != caller.PID || c.UserNamespace != first.UserNamespace {
			t.Errorf("by process %d: init %d, want %d", session.PID, c.InitPID, caller.PID)
		}
	}
}

func TestInspectHost(t *testing.T) {
	sdktest.RequireRoot(t)
	if c := inspectContainer(t, Claim{PID: os.Getpid()}); !c.Privileged || c.InitPID != os.Getpid() {
		t.Errorf("got %+v", c)
	}
}

func TestInspectGone(t *testing.T) {
	caller := testcaller.Start(t, 0)
	caller.Kill()
	for name, pid := range map[string]int{"dead": caller.PID, "never there": 1 << 30} {
		t.Run(name, func(t *testing.T) {
			if _, err := Inspect(Claim{ID: "x\n", PID: pid}); !errors.Is(err, os.ErrProcessDone) {
				t.Errorf("got %v", err)
			}
		})
	}
	for name, pid := range map[string]int{"zero": 0, "negative": -5} {
		t.Run(name, func(t *testing.T) {
			if _, err := Inspect(Claim{PID: pid}); err == nil {
				t.Error("it is inspected")
			}
		})
	}
}

// A process that ends while it is looked at is gone, and one that lives is not, whatever fails.
func TestGoneError(t *testing.T) {
	caller := testcaller.Start(t, 0)
	process, err := target.Open(caller.PID)
	if err != nil {
		t.Fatal(err)
	}
	defer process.Close()
	missing := &os.PathError{Op: "open", Path: "/proc/PID/ns/user", Err: unix.ENOENT}
	if err := goneError(missing, process); errors.Is(err, os.ErrProcessDone) || !errors.Is(err, unix.ENOENT) {
		t.Errorf("of a process that lives: %v", err)
	}
	caller.Kill()
	if err := goneError(missing, process); !errors.Is(err, os.ErrProcessDone) || !errors.Is(err, unix.ENOENT) {
		t.Errorf("of a process that is gone: %v", err)
	}
	if err := goneError(nil, process); err != nil {
		t.Errorf("without an error: %v", err)
	}
}

// TestNamespaceHeld checks that the identity of a container that is gone is not another's as long as it is known.
func TestNamespaceHeld(t *testing.T) {
	first := testcaller.Start(t, 0)
	c := inspectContainer(t, Claim{PID: first.PID})
	first.Kill()
	for range 20 {
		next := testcaller.Start(t, 0)
		if d := inspectContainer(t, Claim{PID: next.PID}); d.UserNamespace == c.UserNamespace {
			t.Fatal("another container has the same identity")
		}
		next.Kill()
	}
}
