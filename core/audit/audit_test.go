package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/intercede/intercede/internal/loglimit"
	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/internal/wire"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

var mknodat = &wire.Syscall{
	Name:  "mknodat",
	Reads: []*wire.Read{{Arg: 1, Kind: &wire.Read_String_{String_: &wire.StringRead{Max: 4096}}}},
	Arguments: []*wire.Argument{
		{Name: "dirfd", Format: wire.Argument_FORMAT_FD}, {Name: "path"},
		{Name: "mode", Format: wire.Argument_FORMAT_MODE}, {Name: "dev", Format: wire.Argument_FORMAT_DEV},
	},
}

func record(path *wire.Memory) Record {
	cwd := -100
	return Record{
		Container: &Container{ID: "box"}, Syscall: "mknodat", Declared: mknodat, Reads: []*wire.Memory{path}, Duration: 1500 * time.Millisecond,
		Notification: &notify.Notification{
			ID: 7, TID: 8, Arch: unix.AUDIT_ARCH_X86_64, Args: [6]uint64{uint64(uint32(cwd)), 0x1000, unix.S_IFCHR | 0o666, 0x103},
		},
		Outcome: Outcome{Plugin: "mknod", Kind: Return},
	}
}

// write returns the record's line, decoded; nil: none was written.
func write(t *testing.T, level zerolog.Level, r Record) map[string]any {
	t.Helper()
	var text bytes.Buffer
	New(zerolog.New(&text).Level(level)).Call(r)
	if text.Len() == 0 {
		return nil
	}
	if strings.Count(text.String(), "\n") != 1 {
		t.Errorf("not one line: %q", text.String())
	}
	var line map[string]any
	if err := json.Unmarshal(text.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	return line
}

func TestRecord(t *testing.T) {
	line := write(t, zerolog.DebugLevel, record(&wire.Memory{Data: []byte("dev/null")}))
	for key, want := range map[string]any{
		"level": "debug", "container": "box", "syscall": "mknodat", "arch": "x86_64", "notif_id": 7.0, "tid": 8.0,
		"args": `dirfd=AT_FDCWD path="dev/null" mode=S_IFCHR|0666 dev=1:3`, "plugin": "mknod", "outcome": "return", "value": 0.0, "dur_s": 1.5,
	} {
		if line[key] != want {
			t.Errorf("%s is %v, want %v", key, line[key], want)
		}
	}
}

func TestOutcomes(t *testing.T) {
	for name, test := range map[string]struct {
		outcome Outcome
		level   string
		key     string
		want    any
	}{
		"value":      {Outcome{Kind: Return, Value: -3}, "debug", "value", -3.0},
		"descriptor": {Outcome{Kind: AddFD, Value: 5}, "debug", "value", 5.0},
		"errno":      {Outcome{Kind: Errno, Errno: unix.EPERM}, "debug", "errno", "EPERM"},
		"no name":    {Outcome{Kind: Errno, Errno: 4000}, "debug", "errno", "4000"},
		"continue":   {Outcome{Kind: Continue}, "debug", "value", nil},
		"gone":       {Outcome{Kind: Gone}, "debug", "outcome", "gone"},
		"failure":    {Outcome{Kind: Errno, Errno: unix.EIO, Err: errors.New("no luck")}, "warn", "error", "no luck"},
	} {
		t.Run(name, func(t *testing.T) {
			r := record(&wire.Memory{})
			r.Outcome = test.outcome
			line := write(t, zerolog.DebugLevel, r)
			if line["level"] != test.level || line[test.key] != test.want {
				t.Errorf("got %v", line)
			}
		})
	}
}

// TestLevels checks that a call costs no line where nobody reads it.
func TestLevels(t *testing.T) {
	r := record(&wire.Memory{})
	if line := write(t, zerolog.InfoLevel, r); line != nil {
		t.Errorf("got %v", line)
	}
	r.Outcome.Err = errors.New("no luck")
	if line := write(t, zerolog.InfoLevel, r); line == nil {
		t.Error("a failure is not logged")
	}
}

// TestFailuresAreLimited has a container fail without end: the records of each kind are few, and say how many there
// were.
func TestFailuresAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		l := New(zerolog.New(&text))
		fail := func(plugin string, n int) {
			r := record(&wire.Memory{})
			r.Outcome = Outcome{Plugin: plugin, Kind: Errno, Errno: unix.EIO, Err: errors.New("no luck")}
			for range n {
				l.Call(r)
			}
		}
		lines := func() int { return strings.Count(text.String(), "\n") }
		fail("mknod", 1000)
		if lines() != maxFailures {
			t.Errorf("%d lines, want %d", lines(), maxFailures)
		}
		fail("mount", 1)
		if lines() != maxFailures+1 {
			t.Error("one plugin's failures hide another's")
		}
		time.Sleep(loglimit.Period)
		fail("mknod", 1)
		if !strings.HasSuffix(text.String(), "\n") || !strings.Contains(text.String(), fmt.Sprintf(`"suppressed":%d`, 1000-maxFailures)) {
			t.Errorf("the number of those that are missing is not logged:\n%s", text.String())
		}
	})
}

// TestNothingIsAllocated checks that a call that is not logged costs nothing here.
func TestNothingIsAllocated(t *testing.T) {
	r := record(&wire.Memory{})
	for name, err := range map[string]error{"success": nil, "failure": errors.New("no luck")} {
		t.Run(name, func(t *testing.T) {
			r.Outcome.Err = err
			l := New(zerolog.New(io.Discard).Level(zerolog.InfoLevel))
			for range maxFailures {
				l.Call(r)
			}
			if n := testing.AllocsPerRun(100, func() { l.Call(r) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func TestMemory(t *testing.T) {
	long := strings.Repeat("x", maxText)
	for name, test := range map[string]struct {
		memory *wire.Memory
		want   string
	}{
		"text":       {&wire.Memory{Data: []byte("a b")}, `path="a b"`},
		"empty":      {&wire.Memory{}, `path=""`},
		"unreadable": {&wire.Memory{Errno: int32(unix.EFAULT)}, `path=0x1000(EFAULT)`},
		"as long":    {&wire.Memory{Data: []byte(long)}, `path="` + long + `" `},
		"too long":   {&wire.Memory{Data: []byte(long + "y")}, `path="` + long + `"... `},
		"forged": {&wire.Memory{Data: []byte("x\" outcome=return\nlevel=error \x1b[2J\u202e\xff")},
			`path="x\" outcome=return\nlevel=error \x1b[2J\u202e\xff" `},
	} {
		t.Run(name, func(t *testing.T) {
			if got := arguments(record(test.memory)); !strings.Contains(got, test.want) {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestUndeclared(t *testing.T) {
	r := record(nil)
	r.Declared, r.Reads = nil, nil
	if got := arguments(r); got != "[0xffffff9c 0x1000 0x21b6 0x103 0x0 0x0]" {
		t.Errorf("got %s", got)
	}
	r.Declared = mknodat // the plugin was not asked: nothing was read
	if got := arguments(r); !strings.Contains(got, "path=0x1000") {
		t.Errorf("got %s", got)
	}
}

func TestRegister(t *testing.T) {
	for name, test := range map[string]struct {
		value  uint64
		format wire.Argument_Format
		want   string
	}{
		"hex":            {255, wire.Argument_FORMAT_HEX, "0xff"},
		"negative int":   {0xffff_ffff, wire.Argument_FORMAT_INT, "-1"},
		"garbage above":  {0xdead_0000_0005, wire.Argument_FORMAT_INT, "5"},
		"size":           {1<<64 - 1, wire.Argument_FORMAT_UINT, "18446744073709551615"},
		"descriptor":     {3, wire.Argument_FORMAT_FD, "3"},
		"mode, no type":  {0o1644, wire.Argument_FORMAT_MODE, "01644"},
		"mode of 16 bit": {0xf_61ff, wire.Argument_FORMAT_MODE, "S_IFBLK|0777"},
		"unknown type":   {0xf000, wire.Argument_FORMAT_MODE, "0170000"},
		"large device":   {0xfff00, wire.Argument_FORMAT_DEV, "4095:0"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := register(test.value, test.format); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// FuzzMemory checks that what a caller gave is one bounded line of printable ASCII.
func FuzzMemory(f *testing.F) {
	f.Add([]byte("dev/null"), int32(0))
	f.Add([]byte("\x1b[2J\n\xff\u2028"), int32(0))
	f.Add([]byte{}, int32(-1))
	f.Fuzz(func(t *testing.T, data []byte, errno int32) {
		got := arguments(record(&wire.Memory{Data: data, Errno: errno}))
		if len(got) > 10*maxText {
			t.Errorf("%d bytes", len(got))
		}
		for _, r := range got {
			if r > unicode.MaxASCII || !unicode.IsPrint(r) {
				t.Errorf("%q in %q", r, got)
			}
		}
	})
}
