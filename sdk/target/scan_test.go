package target_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// numbered is a step that makes a process or a thread, which gets this id in the container's pid namespace.
func numbered(tid int, step string) []string {
	return []string{fmt.Sprintf("write /proc/sys/kernel/ns_last_pid %d", tid-1), step}
}

// TestScanForTID has threads that the target names by the ids of its own pid namespace.
func TestScanForTID(t *testing.T) {
	pidNamespace := "do unshare 0x20000000" // CLONE_NEWPID
	for name, test := range map[string]struct {
		script []string
		there  []int // ids in the target's pid namespace
		gone   []int
	}{
		"process":          {numbered(5000, "fork"), []int{1, 5000}, []int{4999, 5001}},
		"thread":           {slices.Concat(numbered(5000, "fork"), numbered(5001, "thread")), []int{1, 5000, 5001}, []int{5002}},
		"leader has ended": {slices.Concat(numbered(5000, "fork"), numbered(5001, "leader-exits")), []int{1, 5000, 5001}, []int{5002}},
		"thread's child": {slices.Concat(numbered(5000, "fork"), numbered(5001, "thread"), numbered(5002, "fork")),
			[]int{1, 5000, 5001, 5002}, []int{5003}},
		"nested":       {slices.Concat([]string{pidNamespace}, numbered(5000, "fork")), []int{1}, []int{2, 5000}},
		"twice nested": {slices.Concat([]string{pidNamespace, "fork", pidNamespace, "fork"}, numbered(77, "thread")), []int{1, 77}, []int{2, 78}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, parked := park(t, test.script...)
			for _, tid := range test.there {
				got, err := parked.ScanForTID(tid)
				if err != nil {
					t.Errorf("thread %d: %v", tid, err)
				}
				if want, err := parked.TranslateTID(tid); !errors.Is(err, unix.ENOTTY) && got != want {
					t.Errorf("thread %d is %d, %v; want %d", tid, got, err, want)
				}
			}
			for _, tid := range append(test.gone, 0, -1, 1<<21, 1<<32+1) {
				if got, err := parked.ScanForTID(tid); !errors.Is(err, unix.ESRCH) {
					t.Errorf("thread %d is %d, %v", tid, got, err)
				}
			}
		})
	}
}

// TestScanForTIDInner names a thread that is in a pid namespace below the target's.
func TestScanForTIDInner(t *testing.T) {
	c, _, parked := park(t, "do mknod s:/tmp/never S_IFIFO|0666 0")
	// The fork of a process that has unshared its pid namespace is thread 5000 here, and thread 1 there.
	p := c.Start(t, c.Install(t, sdktest.Caller(t)),
		append([]string{"do unshare 0x20000000"}, append(numbered(5000, "fork"), "open /tmp/never O_RDONLY")...)...)
	defer p.Kill(t)
	var got int
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		var err error
		if got, err = parked.ScanForTID(5000); err == nil {
			break
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", got))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("NSpid:\t%d\t5000\t1\n", got); !strings.Contains(string(status), want) {
		t.Errorf("thread 5000 is %d, whose status is\n%s", got, status)
	}
	if init, err := parked.ScanForTID(1); err != nil || init != c.Identity().InitPID {
		t.Errorf("init is %d, %v; want %d", init, err, c.Identity().InitPID)
	}
}

// TestScanForTIDOtherContainer has two pid namespaces with threads of the same ids.
func TestScanForTIDOtherContainer(t *testing.T) {
	for range 2 {
		a, _, parkedA := park(t, numbered(5000, "fork")...)
		b, _, parkedB := park(t, numbered(5000, "fork")...)
		if a.Identity().InitPID == b.Identity().InitPID {
			t.Fatal("the containers have one init")
		}
		for _, one := range []struct {
			parked *target.Target
			c      *sdktest.Container
		}{{parkedA, a}, {parkedB, b}} {
			if init, err := one.parked.ScanForTID(1); err != nil || init != one.c.Identity().InitPID {
				t.Errorf("init is %d, %v; want %d", init, err, one.c.Identity().InitPID)
			}
			if self, err := one.parked.ScanForTID(5000); err != nil || self != one.parked.TID() {
				t.Errorf("the target is %d, %v; want %d", self, err, one.parked.TID())
			}
		}
	}
}

// TestScanForTIDHere has a target in this process's own pid namespace.
func TestScanForTIDHere(t *testing.T) {
	self, err := target.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	if got, err := self.ScanForTID(os.Getpid()); err != nil || got != os.Getpid() {
		t.Errorf("thread %d is %d, %v", os.Getpid(), got, err)
	}
	for _, tid := range []int{deadTID(t), 0, -1} {
		if got, err := self.ScanForTID(tid); !errors.Is(err, unix.ESRCH) {
			t.Errorf("thread %d is %d, %v", tid, got, err)
		}
	}
}

// TestInUserNamespace goes from user namespaces to those above them.
func TestInUserNamespace(t *testing.T) {
	c, _, parked := park(t)
	_, _, nested := park(t, "unshare user")
	other, _, _ := park(t)
	host, err := target.StatNamespace("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	own, err := nested.UserNamespace()
	if err != nil {
		t.Fatal(err)
	}
	self, err := target.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	for name, test := range map[string]struct {
		thread    *target.Target
		namespace target.NamespaceID
		want      bool
	}{
		"its own":                 {parked, c.Identity().UserNamespace, true},
		"the host's, from below":  {parked, host, true},
		"the host's, from deeper": {nested, host, true},
		"its own, nested":         {nested, own, true},
		"a sibling":               {parked, other.Identity().UserNamespace, false},
		"one below":               {parked, own, false},
		"a container's, of host":  {self, c.Identity().UserNamespace, false},
		"the host's, of host":     {self, host, true},
		"none":                    {parked, target.NamespaceID{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := test.thread.InUserNamespace(test.namespace); err != nil || got != test.want {
				t.Errorf("got %v, %v; want %v", got, err, test.want)
			}
		})
	}
}

// TestGone has a thread that is a zombie, and one that was reaped.
func TestGone(t *testing.T) {
	host, err := target.StatNamespace("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command("sleep", "1000")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	gone, err := target.Open(command.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	command.Process.Kill()
	command.Wait()
	if in, err := gone.InUserNamespace(host); in || !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("InUserNamespace: %v, %v", in, err)
	}
	if got, err := gone.ScanForTID(1); !errors.Is(err, unix.ESRCH) {
		t.Errorf("ScanForTID: %d, %v", got, err)
	}
}
