package sched

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// realTimeGroup makes a cgroup without real-time runtime, as every new one is (sched-rt-group.rst).
func realTimeGroup(t *testing.T) string {
	t.Helper()
	sdktest.RequireRoot(t)
	sdktest.RequireCgroups(t, "cpu")
	found, _ := filepath.Glob("/sys/fs/cgroup/*/cpu.rt_runtime_us")
	if len(found) == 0 {
		sdktest.Lacking(t, "needs CONFIG_RT_GROUP_SCHED and the cpu controller of cgroup version 1")
	}
	group, err := os.MkdirTemp(filepath.Dir(found[0]), "intercede-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := unix.Rmdir(group)
		for end := time.Now().Add(patience); err == unix.EBUSY && time.Now().Before(end); err = unix.Rmdir(group) {
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil {
			t.Errorf("remove %s: %v", group, err)
		}
	})
	return group
}

// TestRealTimeGroup is refused by the kernel, whoever asks, until the cgroup has real-time runtime.
func TestRealTimeGroup(t *testing.T) {
	group := realTimeGroup(t)
	set := func(file string, value int) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(group, file), []byte(strconv.Itoa(value)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	intercepted, realRoot := sdktest.NewContainer(t, plugin), sdktest.NewContainer(t, nil, sdktest.WithRealRoot())
	for _, test := range []struct {
		runtime     int // µs of each second
		want, kinds string
	}{{0, "EPERM EPERM ok", "errno errno value"}, {1000, "ok ok ok", "value value value"}} {
		set("cpu.rt_runtime_us", test.runtime)
		for name, c := range map[string]*sdktest.Container{"the caller": intercepted, "real root": realRoot} {
			fifo := fmt.Sprintf("/tmp/%d", test.runtime)
			c.Call(t, "do mknod s:"+fifo+" S_IFIFO|0666 0").Lines(t)
			caller := c.Start(t, c.Install(t, sdktest.Caller(t)), "open "+fifo+" O_RDONLY", scheduler(0, "SCHED_FIFO", 1),
				attr(0, "SCHED_RR", 0, 1), scheduler(0, "SCHED_BATCH", 0))
			set("cgroup.procs", caller.PID)
			c.Call(t, "open "+fifo+" O_WRONLY").Lines(t)
			result := caller.Wait(t)
			if got := sdktest.Errnos(result.Lines(t)); got != test.want {
				t.Errorf("with a runtime of %d %s gets %s, want %s", test.runtime, name, got, test.want)
			}
			if c == intercepted && result.Kinds() != test.kinds {
				t.Errorf("with a runtime of %d the calls were answered by %q, want %q", test.runtime, result.Kinds(), test.kinds)
			}
		}
	}
}
