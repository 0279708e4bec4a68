package main

import (
	"context"
	"strconv"
	"sync"
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

func tally(lines []sdktest.Line) map[unix.Errno]int {
	counts := map[unix.Errno]int{}
	for _, l := range lines {
		counts[l.Errno]++
	}
	return counts
}

// TestManyThreads load, attach and detach at once.
func TestManyThreads(t *testing.T) {
	const threads, each = 16, 8
	c, tr := newContainer(t)
	got := c.Call(t, openDir("/top/own"), "fd "+loadCall(denyNull),
		"threads "+strconv.Itoa(threads), "repeat "+strconv.Itoa(each), "sys "+loadCall(denyNull),
		"threads "+strconv.Itoa(threads), "sys "+attachCall(3, 4, multi),
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
		counts := tally(c.lines)
		for errno, n := range c.want {
			if counts[errno] != n {
				t.Errorf("%s: %v, want %v", what, counts, c.want)
			}
		}
	}
	if got := tr.count(t); got != none {
		t.Errorf("attached: %s", got)
	}
}

func TestManyProcesses(t *testing.T) {
	c, tr := newContainer(t)
	program := c.Install(t, sdktest.Caller(t))
	var processes []*sdktest.Process
	for range 16 {
		processes = append(processes, c.Start(t, program, openDir("/top/own/sub"), "fd "+loadCall(always(1)),
			"sys "+attachCall(3, 4, multi), "sys "+queryCall(3, 0, 4), "sys "+detachCall(3, 4)))
	}
	for _, p := range processes {
		if outcome := sdktest.Errnos(p.Wait(t).Lines(t)[:1]); outcome != "ok" {
			t.Errorf("attach: %s", outcome)
		}
	}
	if got := tr.count(t); got != none {
		t.Errorf("attached: %s", got)
	}
}

// held is the plugin with a handler that waits before its work.
type held struct {
	handler
	before func(context.Context, *sdk.Request)
}

func (h held) Attach(ctx context.Context, c sdk.Container, s sdk.Settings) (sdk.Session, error) {
	inner, err := h.handler.Attach(ctx, c, s)
	return heldSession{inner, h}, err
}

type heldSession struct {
	sdk.Session
	held held
}

func (s heldSession) Handle(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	s.held.before(ctx, req)
	return s.Session.Handle(context.WithoutCancel(ctx), req)
}

// TestCallerKilled kills the caller while the plugin is at work: nothing is attached, and no program stays.
func TestCallerKilled(t *testing.T) {
	for name, command := range map[string]struct {
		number uint32
		call   string
	}{
		"load": {cmdLoad, loadCall(always(0))}, "attach": {cmdAttach, attachCall(3, 4, multi)}, "link": {cmdLink, linkCall(3, 4)},
	} {
		t.Run(name, func(t *testing.T) {
			entered := make(chan struct{})
			var once sync.Once
			seen := 0
			h := held{before: func(ctx context.Context, req *sdk.Request) {
				if req.Uint32(0) != command.number {
					return
				}
				if seen++; name == "load" && seen == 1 {
					return
				}
				once.Do(func() {
					close(entered)
					<-ctx.Done()
				})
			}}
			tr := newTree(t)
			c := tr.container(t, h, enabled)
			p := c.Start(t, c.Install(t, sdktest.Caller(t)), openDir("/top/own"), "fd "+loadCall(always(0)), "sys "+command.call)
			<-entered
			p.Kill(t)
			if result := p.Wait(t); result.Signal != unix.SIGKILL {
				t.Errorf("the caller ended by %v", result.Signal)
			}
			if outcome := sdktest.Errnos(c.Call(t, openNull).Lines(t)); outcome != "ok" {
				t.Errorf("afterwards: %s", outcome)
			}
			if got := tr.count(t); got != none {
				t.Errorf("attached: %s", got)
			}
		})
	}
}

// TestChangedMemory has another thread exchange the attr all the while: the plugin acts on its copy, and never lets the kernel
// read again what it would do for everybody.
func TestChangedMemory(t *testing.T) {
	c, tr := newContainer(t)
	client := buildClient(t)
	got := c.Run(t, c.Install(t, client), "exchange", "/top/own")
	if got.ExitCode != 0 {
		t.Fatalf("the client: %s%s", got.Stdout, got.Stderr)
	}
	for _, call := range got.Calls {
		if command := uint32(call.Args[0]); call.Outcome.Kind == sdktest.Continue && command != cmdLoad && command != cmdQuery {
			t.Errorf("command %d is continued", command)
		}
	}
	if got := tr.count(t); got != none {
		t.Errorf("attached: %s", got)
	}
}
