package bpf

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/asm"
	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
)

// bounded are the settings with a bound.
func bounded(key string, bound int) sdktest.Option {
	return sdktest.WithSettings(map[string]any{"devices": true, key: bound})
}

// TestTooManyInstructions has the kernel's time, which is quadratic in the number of divisions, bounded.
func TestTooManyInstructions(t *testing.T) {
	client := buildClient(t)
	for name, test := range map[string]struct {
		options        []sdktest.Option
		task, argument string
		want           string
	}{
		"default":      {nil, "divide", "4092", "4096 <nil>\n"},
		"beyond":       {nil, "divide", "4093", "4097 load program: argument list too long\n"},
		"far beyond":   {nil, "divide", "999996", "1000000 load program: argument list too long\n"},
		"small":        {[]sdktest.Option{bounded("max_instructions", 10)}, "divide", "6", "10 <nil>\n"},
		"beyond small": {[]sdktest.Option{bounded("max_instructions", 10)}, "divide", "7", "11 load program: argument list too long\n"},
		// An emulated processor takes longer for them than the ordinary deadline.
		"the kernel's bound": {[]sdktest.Option{bounded("max_instructions", kernelInstructions), sdktest.WithDeadline(10 * time.Minute)},
			"large", "-",
			"1000000 <nil>\n1000001 load program: argument list too long\n"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := enabledContainer(t, test.options...)
			if got := c.Run(t, c.Install(t, client), test.task, test.argument); got.Stdout != test.want {
				t.Errorf("got\n%swant\n%s%s", got.Stdout, test.want, got.Stderr)
			}
		})
	}
}

// TestTooManyPrograms has a container keep more than it may. There is room again when they are gone, but not while they
// are attached.
func TestTooManyPrograms(t *testing.T) {
	c, tr := enabledContainer(t, bounded("max_programs", 9))
	keep := func(want string) {
		t.Helper()
		closeCopies(checkErrnos(t, c, want, "repeat 10", "sys "+loadCall(always(1))))
	}
	keep("ok ok ok ok ok ok ok ok ok ENOMEM")
	keep("ok ok ok ok ok ok ok ok ok ENOMEM")
	closeCopies(checkErrnos(t, c, "ok ok", openDir("/top/own"), "fd "+loadCall(always(1)), "fd "+loadCall(always(1)),
		"sys "+attachCall(3, 4), "sys "+attachCall(3, 5)))
	keep("ok ok ok ok ok ok ok ENOMEM ENOMEM ENOMEM")
	tr.checkCount(t, ".:0 own:2 own/sub:0 own/sub/deep:0 sibling:0")
}

// TestMemoryIsCharged has a container's memory cgroup charged for its programs, and refuse what is too much.
func TestMemoryIsCharged(t *testing.T) {
	const count, instructions = 40, 4096
	dir := memoryCgroup(t)
	c := sdktest.NewContainer(t, handler{}, enabled, sdktest.WithCgroup(dir))
	program := append(slices.Repeat(asm.Instructions{asm.Mov.Imm(asm.R0, 1)}, instructions-1), asm.Return())
	call := "sys " + loadCall(program)
	before := readNumber(t, dir, "memory.kmem.usage_in_bytes")
	got := c.Call(t, "repeat "+strconv.Itoa(count), call)
	defer closeCopies(got)
	if n := sdktest.Tally(got.Lines(t))[0]; n != count {
		t.Fatalf("%d programs are loaded", n)
	}
	charged := readNumber(t, dir, "memory.kmem.usage_in_bytes") - before
	if least := int64(count * instructions * insnSize); charged < least {
		t.Errorf("%d bytes are charged, want %d at least", charged, least)
	}
}

// memoryCgroup is a cgroup of version 1 with the memory controller.
func memoryCgroup(t *testing.T) *os.File {
	t.Helper()
	sdktest.RequireRoot(t)
	path, err := os.MkdirTemp(sdktest.RequireCgroups(t, "memory"), "bpf-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeCgroups(t, path) })
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

func readNumber(t *testing.T, dir *os.File, name string) int64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir.Name(), name))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestDeadlineKills stops what loads a program, by the freezer of the caller's cgroup: it is killed when the call's
// time is over. Where a signal takes a caller out of its call (before 5.19, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV), so
// does the freezer: the call comes again then, and gets the same answer.
func TestDeadlineKills(t *testing.T) {
	tr := newTree(t)
	own := filepath.Join(tr.top, "own")
	var before, after []string
	var response sdk.Response
	var err error
	frozen := sdktest.Around{Handler: handler{}, Handle: func(ctx context.Context, req *sdk.Request, next sdk.Session) (sdk.Response, error) {
		if before != nil {
			return response, err
		}
		before = members(t, own)
		freeze(t, own, "1")
		defer freeze(t, own, "0")
		response, err = next.Handle(ctx, req)
		after = members(t, own)
		for len(after) > len(before) {
			time.Sleep(time.Millisecond)
			after = members(t, own)
		}
		return response, err
	}}
	c := tr.container(t, sdktest.InProcess(frozen), enabled, sdktest.WithDeadline(time.Second))
	checkErrnos(t, c, "EPERM", "sys "+loadCall(always(1)))
	if len(before) == 0 || !slices.Equal(before, after) {
		t.Errorf("the cgroup had processes %v, and has %v", before, after)
	}
}

func members(t *testing.T, cgroup string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(cgroup, "cgroup.procs"))
	if err != nil {
		t.Error(err)
	}
	return strings.Fields(string(text))
}

func freeze(t *testing.T, cgroup, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(cgroup, "cgroup.freeze"), []byte(value), 0); err != nil {
		t.Error(err)
	}
}
