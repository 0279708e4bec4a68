package bpf

import (
	"strconv"
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// TestManyThreads load, attach and detach at once.
func TestManyThreads(t *testing.T) {
	const threads, each = 16, 8
	c, tr := enabledContainer(t)
	got := c.Call(t, openDir("/top/own"), "fd "+loadCall(denyNull),
		"threads "+strconv.Itoa(threads), "repeat "+strconv.Itoa(each), "sys "+loadCall(denyNull),
		"threads "+strconv.Itoa(threads), "sys "+attachCall(3, 4),
		"threads "+strconv.Itoa(threads), "sys "+queryCall(3, 0, 4),
		"threads "+strconv.Itoa(threads), "sys "+detachCall(3, 4)).Lines(t)
	for what, c := range map[string]struct {
		lines []sdktest.Line
		want  map[unix.Errno]int
	}{
		"load":   {got[:threads*each], map[unix.Errno]int{0: threads * each}},
		"attach": {got[threads*each : threads*(each+1)], map[unix.Errno]int{0: 1, unix.EINVAL: threads - 1}},
		"query":  {got[threads*(each+1) : threads*(each+2)], map[unix.Errno]int{0: threads}},
		"detach": {got[threads*(each+2):], map[unix.Errno]int{0: 1, unix.ENOENT: threads - 1}},
	} {
		counts := sdktest.Tally(c.lines)
		for errno, n := range c.want {
			if counts[errno] != n {
				t.Errorf("%s: %v, want %v", what, counts, c.want)
			}
		}
	}
	tr.checkCount(t, none)
}

func TestManyProcesses(t *testing.T) {
	c, tr := enabledContainer(t)
	program := c.Install(t, sdktest.Caller(t))
	var processes []*sdktest.Process
	for range 16 {
		processes = append(processes, c.Start(t, program, openDir("/top/own/sub"), "fd "+loadCall(always(1)),
			"sys "+attachCall(3, 4), "sys "+queryCall(3, 0, 4), "sys "+detachCall(3, 4)))
	}
	for _, p := range processes {
		if outcome := sdktest.Errnos(p.Wait(t).Lines(t)[:1]); outcome != "ok" {
			t.Errorf("attach: %s", outcome)
		}
	}
	tr.checkCount(t, none)
}

// TestCallerKilled kills the caller while the plugin is at work: nothing is attached, and no program stays.
func TestCallerKilled(t *testing.T) {
	for name, command := range map[string]struct {
		number uint32
		call   string
	}{
		"load": {cmdLoad, loadCall(always(0))}, "attach": {cmdAttach, attachCall(3, 4)}, "link": {cmdLink, linkCall(3, 4)},
	} {
		t.Run(name, func(t *testing.T) {
			seen := 0
			hold := sdktest.NewHold(handler{}, sdktest.BeforeWork, func(req *sdk.Request) bool {
				if req.Uint32(0) != command.number {
					return false
				}
				seen++
				return name != "load" || seen > 1
			})
			tr := newTree(t)
			c := tr.container(t, hold, enabled)
			hold.KillCaller(t, c, openDir("/top/own"), "fd "+loadCall(always(0)), "sys "+command.call)
			checkErrnos(t, c, "ok", openNull)
			tr.checkCount(t, none)
		})
	}
}

// TestChangedMemory has another thread exchange the attr all the while: the plugin acts on its copy, and never lets the
// kernel read again what it would do for everybody.
func TestChangedMemory(t *testing.T) {
	c, tr := enabledContainer(t)
	client := buildClient(t)
	got := c.Run(t, c.Install(t, client), "exchange", "/top/own")
	if got.ExitCode != 0 {
		t.Fatalf("the client: %s%s", got.Stdout, got.Stderr)
	}
	for _, call := range got.Calls {
		left := call.Outcome.Kind == sdktest.Continue || call.Outcome.Kind == sdktest.Next
		if command := uint32(call.Args[0]); left && command != cmdLoad && command != cmdQuery {
			t.Errorf("command %d is continued", command)
		}
	}
	tr.checkCount(t, none)
}
