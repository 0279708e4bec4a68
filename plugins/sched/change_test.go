package sched

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// memory is a struct sched_attr of some size.
func memory(size int, attr unix.SchedAttr) []byte {
	raw, err := binary.Append(nil, binary.NativeEndian, attr)
	if err != nil {
		panic(err)
	}
	return append(raw, make([]byte, max(0, size-len(raw)))...)[:size]
}

func TestParseAttr(t *testing.T) {
	fifo := unix.SchedAttr{Size: 48, Policy: unix.SCHED_FIFO, Priority: 7}
	flags := func(flags uint64) unix.SchedAttr {
		return unix.SchedAttr{Policy: unix.SCHED_FIFO, Flags: flags, Priority: 7, Util_min: 3}
	}
	long := memory(64, fifo)
	long[63] = 1
	for name, test := range map[string]struct {
		raw         []byte
		ok          bool
		keepsPolicy bool
	}{
		"first version":              {memory(48, fifo), true, false},
		"between versions":           {memory(50, fifo), true, false},
		"second version":             {memory(56, fifo), true, false},
		"longer":                     {memory(4096, fifo), true, false},
		"longer, unknown":            {long, false, false},
		"reset on fork":              {memory(48, flags(unix.SCHED_FLAG_RESET_ON_FORK)), true, false},
		"reclaim":                    {memory(48, flags(unix.SCHED_FLAG_RECLAIM)), true, false},
		"overrun":                    {memory(48, flags(unix.SCHED_FLAG_DL_OVERRUN)), true, false},
		"keep policy":                {memory(48, flags(unix.SCHED_FLAG_KEEP_POLICY)), true, true},
		"keep parameters":            {memory(48, flags(unix.SCHED_FLAG_KEEP_PARAMS)), false, false},
		"keep all":                   {memory(48, flags(unix.SCHED_FLAG_KEEP_ALL)), false, true},
		"clamp":                      {memory(56, flags(unix.SCHED_FLAG_UTIL_CLAMP)), true, false},
		"clamp in the first version": {memory(48, flags(unix.SCHED_FLAG_UTIL_CLAMP_MIN)), false, false},
		"unknown flag":               {memory(48, flags(0x80)), false, false},
		"governor":                   {memory(48, flags(0x10000000)), false, false},
		"highest flag":               {memory(48, flags(1<<63)), false, false},
		"negative policy":            {memory(48, unix.SchedAttr{Policy: 1 << 31}), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			var c change
			if ok := c.parseAttr(test.raw); ok != test.ok || ok && c.keepsPolicy != test.keepsPolicy {
				t.Errorf("got %v, %+v", ok, c)
			}
			if test.ok && (c.call != setAttr || c.attr.Policy != unix.SCHED_FIFO || c.attr.Priority != 7) {
				t.Errorf("got %+v", c)
			}
		})
	}
}

// FuzzParseAttr holds what was taken against the memory: the kernel must read the same of what is given to it, but for
// what the plugin changes.
func FuzzParseAttr(f *testing.F) {
	f.Add(memory(48, unix.SchedAttr{Size: 48, Policy: unix.SCHED_FIFO, Priority: 7}))
	f.Add(memory(56, unix.SchedAttr{
		Size: 56, Policy: unix.SCHED_NORMAL, Nice: -30, Flags: unix.SCHED_FLAG_UTIL_CLAMP, Util_min: 1, Util_max: 2,
	}))
	f.Add(memory(100, unix.SchedAttr{Policy: unix.SCHED_DEADLINE, Flags: unix.SCHED_FLAG_KEEP_POLICY, Runtime: 1, Deadline: 2, Period: 3}))
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) < attrSizeV0 {
			return
		}
		var c change
		if !c.parseAttr(raw) {
			return
		}
		if c.attr.Flags&^lentFlags != 0 || c.attr.Flags&unix.SCHED_FLAG_KEEP_POLICY != 0 || c.attr.Nice < -20 || c.attr.Nice > 19 {
			t.Errorf("%x is taken as %+v", raw, c)
		}
		again := memory(max(len(raw), unix.SizeofSchedAttr), c.attr)
		whole := append(bytes.Clone(raw), make([]byte, len(again)-len(raw))...)
		for _, changed := range [][2]int{{8, 16}, {16, 20}} { // flags, nice
			copy(again[changed[0]:changed[1]], whole[changed[0]:changed[1]])
		}
		if !bytes.Equal(again, whole) {
			t.Errorf("%x is taken as %x", whole, again)
		}
	})
}

// TestDecisions need no caller: the kernel decides.
func TestDecisions(t *testing.T) {
	s := sdktest.Serve(t, plugin).Attach(sdk.Container{ID: "c"}, nil)
	const at = 0x1000
	attr := func(size uint32, tail map[uint64][]byte) sdktest.Call {
		head := memory(48, unix.SchedAttr{Size: size})
		return sdktest.Call{Syscall: "sched_setattr", Args: [6]uint64{0, at}, Reads: map[int]any{1: head}, Memory: tail}
	}
	unreadable := func(syscall string, arg int, args ...uint64) sdktest.Call {
		c := sdktest.Call{Syscall: syscall, Reads: map[int]any{arg: unix.EFAULT}}
		copy(c.Args[:], args)
		return c
	}
	for name, test := range map[string]struct {
		call sdktest.Call
		want string
	}{
		"no parameter":            {unreadable("sched_setscheduler", 2, 0, unix.SCHED_FIFO), "next"},
		"no parameter, setparam":  {unreadable("sched_setparam", 1), "next"},
		"no attr":                 {unreadable("sched_setattr", 1), "next"},
		"small attr":              {attr(47, nil), "next"},
		"large attr":              {attr(4097, nil), "next"},
		"largest size":            {attr(1<<32-1, nil), "next"},
		"the rest is not there":   {attr(56, nil), "next"},
		"something in the rest":   {attr(64, map[uint64][]byte{at + 48: bytes.Repeat([]byte{1}, 16)}), "next"},
		"gone while rest is read": {func() sdktest.Call { c := attr(56, nil); c.Gone = true; return c }(), "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := s.Handle(t.Context(), test.call).String(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
