package sched

import (
	"fmt"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

func TestMain(m *testing.M) { sdktest.Main(m, plugin) }

func TestScripts(t *testing.T) { sdktest.RunScripts(t, plugin, "testdata", sdktest.Scripts{}) }

// TestDependsOnMachine has calls whose answer depends on the machine. Real root must get the same.
func TestDependsOnMachine(t *testing.T) {
	settings := sdktest.WithSettings(map[string]any{"policies": []string{"deadline", "fifo"}})
	intercepted, realRoot := sdktest.NewContainer(t, plugin, settings), sdktest.NewContainer(t, nil, sdktest.WithRealRoot())
	for name, script := range map[string][]string{
		// A thread that may not use all processors gets EPERM, if there is more than one.
		"deadline and affinity": {
			"do sched_setaffinity 0 8 hex:0100000000000000",
			"sys sched_setattr 0 struct:4=48,4=SCHED_DEADLINE,8=0,4=0,4=0,8=1000000,8=10000000,8=10000000 0",
		},
		// The kernel may lack utilization clamps.
		"clamp": {
			"sys sched_setattr 0 struct:4=56,4=SCHED_FIFO,8=SCHED_FLAG_UTIL_CLAMP,4=0,4=9,8=0,8=0,8=0,4=100,4=200 0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			script = append(script, show(0)...)
			if got, want := intercepted.Call(t, script...), realRoot.Call(t, script...); got.Stdout != want.Stdout {
				t.Errorf("the caller gets\n%sreal root gets\n%s", got.Stdout, want.Stdout)
			}
		})
	}
}

// Scripts of calls on a thread; 0 is the calling one.
func scheduler(tid int, policy string, priority int) string {
	return fmt.Sprintf("sys sched_setscheduler %d %s struct:4=%d", tid, policy, priority)
}

func param(tid, priority int) string {
	return fmt.Sprintf("sys sched_setparam %d struct:4=%d", tid, priority)
}

// attr is sched_setattr(2) with a struct sched_attr of the first version.
func attr(tid int, policy string, nice, priority int) string {
	return fmt.Sprintf("sys sched_setattr %d struct:4=48,4=%s,8=0,4=%d,4=%d,8=0,8=0,8=0 0", tid, policy, nice, priority)
}

// show prints a thread's policy, priority and nice value.
func show(tid int) []string {
	return []string{
		fmt.Sprintf("sys sched_getscheduler %d", tid),
		fmt.Sprintf("sys sched_getparam %d buf:4", tid),
		fmt.Sprintf("sys getpriority PRIO_PROCESS %d", tid),
	}
}
