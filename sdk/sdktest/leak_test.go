package sdktest_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
)

// TestNothingLeft makes containers that leave a process behind, and counts descriptors, children and files after them.
func TestNothingLeft(t *testing.T) {
	sdktest.RequireRoot(t)
	caller := sdktest.Caller(t)
	var rootfs string
	use := func(t *testing.T) {
		c := sdktest.NewContainer(t, sdktest.InProcess(newHandler(always(sdk.Return(0)), sdk.Syscall{Name: "getppid"})))
		rootfs = c.Rootfs()
		c.Call(t, "sys getppid", "write /tmp/file text").Lines(t)
		c.Start(t, c.Install(t, caller), "sys read 1 buf:1 1", "repeat 1000000", "sys getppid")
	}
	t.Run("first", use)
	before := state(t)
	for i := range 3 {
		t.Run(fmt.Sprint(i), use)
	}
	left := more(state(t), before)
	for end := time.Now().Add(time.Minute); len(left) > 0 && time.Now().Before(end); left = more(state(t), before) {
		time.Sleep(10 * time.Millisecond) // a goroutine may be about to close something
	}
	if len(left) > 0 {
		t.Errorf("left: %q\nbefore: %q", left, before)
	}
	if _, err := os.Stat(rootfs); !os.IsNotExist(err) {
		t.Errorf("the rootfs: %v", err)
	}
}

// more is what is in after and not before. What is only in before is about to be closed then, or goes with the garbage.
func more(after, before []string) (left []string) {
	before = slices.Clone(before)
	for _, s := range after {
		if i := slices.Index(before, s); i >= 0 {
			before = slices.Delete(before, i, i+1)
		} else {
			left = append(left, s)
		}
	}
	return left
}

// state is what this process has open, and its children.
func state(t *testing.T) []string {
	t.Helper()
	var all []string
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		link, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.HasPrefix(link, "/proc/") {
			all = append(all, strings.TrimRight(link, "0123456789[]"))
		}
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		children, err := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		if err != nil {
			continue // the thread has ended: its children are another's now
		}
		for _, child := range strings.Fields(string(children)) {
			all = append(all, "child "+child)
		}
	}
	slices.Sort(all)
	return all
}
