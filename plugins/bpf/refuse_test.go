package main

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// continued runs the calls with the plugin and without, and compares all that they print. None may be answered by the
// plugin.
func continued(t *testing.T, want string, script ...string) {
	t.Helper()
	c, _ := newContainer(t)
	got := c.Call(t, script...)
	without := newTree(t).container(t, nil).Call(t, script...)
	if outcome := sdktest.Errnos(got.Lines(t)); outcome != want {
		t.Errorf("the caller gets %s, want %s", outcome, want)
	}
	if got, without := withoutAddresses(got.Lines(t)), withoutAddresses(without.Lines(t)); !reflect.DeepEqual(got, without) {
		t.Errorf("the caller gets\n%+v\nwithout the plugin\n%+v", got, without)
	}
	for _, c := range got.Calls {
		if c.Outcome.Kind != sdktest.Continue {
			t.Errorf("%v is answered by %v", c.Args, c.Outcome)
		}
	}
}

// TestProbes are what programs call to see whether there is a bpf(2).
func TestProbes(t *testing.T) {
	zeros := func(size int) string { return fmt.Sprintf("buf:%d %d", size, size) }
	continued(t, "EFAULT EFAULT EPERM EPERM EPERM E2BIG E2BIG E2BIG EPERM EPERM",
		"sys bpf 5 null 72",
		"sys bpf 5 protnone 72",
		"sys bpf 5 null 0",
		"sys bpf 5 "+zeros(72),
		"sys bpf 5 "+zeros(4096),
		"sys bpf 5 buf:5000 4097",
		"sys bpf 5 null 0xffffffff",
		load(map[string]string{"more": "4=0,8=0,8=0,8=0,8=0,8=0,8=0,8=0,8=0,8=0,8=0,8=0,8=0,8=0,8=0,8=0,4=1", "size": "200"}),
		"sys bpf 16 "+zeros(64),
		"sys bpf 16 "+zeros(24))
	continued(t, "EINVAL EINVAL EINVAL", "sys bpf 0 "+zeros(72), "sys bpf 0x10005 "+zeros(72), "sys bpf -1 "+zeros(72))
}

// TestOtherPrograms are the kernel's to load, or to refuse.
func TestOtherPrograms(t *testing.T) {
	call := func(f asm.BuiltinFunc) string {
		program := asm.Instructions{asm.Mov.Imm(asm.R1, 0), f.Call(), asm.Mov.Imm(asm.R0, 1), asm.Return()}
		return "sys " + loadWith(program, map[string]string{"expected_attach_type": "4=6"})
	}
	for name, calls := range map[string][]string{
		"types": {
			load(map[string]string{"prog_type": "4=1"}), load(map[string]string{"prog_type": "4=8"}), load(map[string]string{"prog_type": "4=0"}),
			load(map[string]string{"prog_type": "4=13"}),
		},
		"fields": {
			load(map[string]string{"prog_ifindex": "4=1"}), load(map[string]string{"expected_attach_type": "4=1"}),
			load(map[string]string{"prog_flags": "4=8"}), load(map[string]string{"more": "4=3", "size": "76"}),
		},
		"programs": {
			call(asm.FnSetRetval), call(asm.FnTracePrintk), call(asm.FnMapLookupElem),
			"sys " + loadCall(asm.Instructions{asm.LoadMapPtr(asm.R1, 3), asm.Return()}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			continued(t, strings.TrimSpace(strings.Repeat("EPERM ", len(calls))), calls...)
		})
	}
}

// TestDisabled: nothing leaves the kernel, which refuses the program.
func TestDisabled(t *testing.T) {
	tr := newTree(t)
	c := tr.container(t, handler{})
	got := c.Call(t, openDir("/top/own"), load(nil), "sys "+attachCall(3, 3, multi), "sys "+detachCall(3, 3), "sys "+linkCall(3, 3), "sys "+queryCall(3, 0, 4))
	if outcome := sdktest.Errnos(got.Lines(t)[:1]); outcome != "EPERM" {
		t.Errorf("the program: %s", outcome)
	}
	if len(got.Calls) != 0 {
		t.Errorf("notified: %s", got.Kinds())
	}
}

// everyCall are all calls that the plugin makes for the privileged, on the cgroup of descriptor 3 and a program of the host's
// that descriptor 4 is of.
var everyCall = []string{
	load(nil), "sys " + attachCall(3, 4, multi), "sys " + detachCall(3, 4), "sys " + linkCall(3, 4), "sys " + queryCall(3, 0, 4),
}

// TestUnprivileged callers are refused every command, though the kernel would let them attach what they have a descriptor of.
func TestUnprivileged(t *testing.T) {
	for name, setup := range map[string][]string{
		"no capability":    {fmt.Sprintf("dropcap %d", unix.CAP_SYS_ADMIN)},
		"user":             {"setuid 1000"},
		"nested":           {"unshare user"},
		"nested, a thread": {"unshare user", "thread"},
	} {
		t.Run(name, func(t *testing.T) {
			c, tr := newContainer(t)
			script := append([]string{openDir("/top/own"), "fd " + loadCall(always(0))}, setup...)
			got := c.Call(t, append(script, everyCall...)...)
			if outcome := sdktest.Errnos(got.Lines(t)); outcome != "EPERM EPERM EPERM EPERM EPERM" {
				t.Errorf("got %s", outcome)
			}
			if got := got.Kinds(); got != "addfd continue errno errno errno continue" {
				t.Errorf("answered by %s", got)
			}
			if got := tr.count(t); got != none {
				t.Errorf("attached: %s", got)
			}
		})
	}
}

// TestMalformed calls get an errno, but for those that are safe to continue, whatever they begin with.
func TestMalformed(t *testing.T) {
	p := newPair(t)
	prepare := []string{openDir("/top/own"), "fd " + loadCall(always(1))}
	for name, c := range map[string]struct{ call, want string }{
		"attach, no attr":            {"bpf 8 null 20", "EFAULT"},
		"attach, bad attr":           {"bpf 8 protnone 20", "EFAULT"},
		"attach, huge attr":          {"bpf 8 null 4097", "E2BIG"},
		"attach, no program":         {attachCall(3, 99, multi), "EBADF"},
		"attach, program -1":         {attachCall(3, -1, multi), "EBADF"},
		"attach, a cgroup":           {attachCall(3, 3, multi), "EINVAL"},
		"attach to nothing":          {attachCall(99, 4, multi), "EBADF"},
		"attach to a program":        {attachCall(4, 4, multi), "EBADF"},
		"attach, odd flags":          {attachCall(3, 4, 6<<8), "EINVAL"},
		"attach, multi and override": {attachCall(3, 4, 3), "EINVAL"},
		"attach, replace alone":      {attachCall(3, 4, 4), "EINVAL"},
		"attach, more":               {"bpf 8 struct:4=3,4=4,4=6,4=2,4=0,4=0,4=0,4=0,4=9 36", "EINVAL"},
		"replace nothing":            {replaceCall(3, 4, 99), "EBADF"},
		"replace a cgroup":           {replaceCall(3, 4, 3), "EINVAL"},
		"replace the unattached":     {replaceCall(3, 4, 4), "ENOENT"},
		"detach, no attr":            {"bpf 9 null 20", "EFAULT"},
		"detach from nothing":        {detachCall(99, 4), "EBADF"},
		"detach, no program":         {detachCall(3, 99), "ENOENT"},
		"detach the unattached":      {detachCall(3, 4), "ENOENT"},
		"detach, more":               {"bpf 9 struct:4=3,4=4,4=6,4=1 16", "EINVAL"},
		"link, no attr":              {"bpf 28 null 16", "EFAULT"},
		"link, no program":           {linkCall(3, 99), "EBADF"},
		"link to nothing":            {linkCall(99, 4), "EBADF"},
		"link, flags":                {"bpf 28 struct:4=4,4=3,4=6,4=2 16", "EINVAL"},
		"query nothing":              {queryCall(99, 0, 4), "EBADF"},
		"query a program":            {queryCall(4, 0, 4), "EBADF"},
		"query, odd flags":           {queryCall(3, 6, 4), "EINVAL"},
		"query, bad ids":             {"bpf 16 struct:4=3,4=6,4=0,4=0,8=0,4=0,4=0 32", "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			kind := map[bool]string{true: "value", false: "errno"}[c.want == "ok"]
			p.compare(t, scripted{append(prepare, "sys "+c.call), c.want, "addfd " + kind})
		})
	}
}

// TestOtherAttachTypes are refused: a caller could exchange its attr while the kernel reads it.
func TestOtherAttachTypes(t *testing.T) {
	c, tr := newContainer(t)
	got := c.Call(t, openDir("/top/own"), "fd "+loadCall(always(1)),
		"sys bpf 8 struct:4=3,4=4,4=0,4=2,4=0 20", "sys bpf 9 struct:4=3,4=4,4=0 12", "sys bpf 28 struct:4=4,4=3,4=0,4=0 16",
		"sys bpf 16 struct:4=3,4=0,4=0,4=0,8=0,4=0,4=0 32", "sys bpf 0x10008 struct:4=3,4=4,4=6,4=2,4=0 20", "sys bpf 0x1001c struct:4=4,4=3,4=6,4=0 16",
		"sys bpf 28 struct:4=-1,4=-1,4=0,4=0 16") // as cilium/ebpf sees whether there are links
	if outcome := sdktest.Errnos(got.Lines(t)); outcome != "EPERM EPERM EPERM EPERM EINVAL EINVAL EBADF" {
		t.Errorf("got %s", outcome)
	}
	if got := got.Kinds(); got != "addfd errno errno errno continue errno errno errno" {
		t.Errorf("answered by %s", got)
	}
	if got := tr.count(t); got != none {
		t.Errorf("attached: %s", got)
	}
}
