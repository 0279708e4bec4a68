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
	after := state(t)
	for end := time.Now().Add(time.Minute); !slices.Equal(before, after) && time.Now().Before(end); after = state(t) {
		time.Sleep(10 * time.Millisecond) // a goroutine may be about to close something
	}
	if !slices.Equal(before, after) {
		t.Errorf("before: %q\nafter: %q", before, after)
	}
	if _, err := os.Stat(rootfs); !os.IsNotExist(err) {
		t.Errorf("the rootfs: %v", err)
	}
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
		if err == nil && len(children) > 0 {
			all = append(all, "children "+string(children))
		}
	}
	slices.Sort(all)
	return all
}
