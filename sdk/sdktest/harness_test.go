package sdktest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

func TestHarnessOutcomes(t *testing.T) {
	for name, test := range map[string]struct {
		handle func(context.Context, *sdk.Request) (sdk.Response, error)
		want   string
	}{
		"value":    {always(sdk.Return(-4100)), "value -4100"},
		"errno":    {always(sdk.Errno(unix.EPERM)), "errno EPERM (1)"},
		"continue": {always(sdk.Continue()), "continue"},
		"next":     {always(sdk.Next()), "next"},
		"writes":   {always(sdk.Return(0).Write(0x1000, []byte{1, 255})), "value 0, write 0x1000 = 01ff"},
		"zero":     {always(sdk.Response{}), "failure: invalid response"},
		"error": {func(context.Context, *sdk.Request) (sdk.Response, error) {
			return sdk.Response{}, errors.New("no luck")
		}, "failure: no luck"},
		"panic": {func(context.Context, *sdk.Request) (sdk.Response, error) { panic("ouch") },
			"failure: panic: ouch"},
		"gone": {func(context.Context, *sdk.Request) (sdk.Response, error) {
			return sdk.Response{}, fmt.Errorf("late: %w", sdk.ErrGone)
		}, "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			h := sdktest.Serve(t, newHandler(test.handle, sdk.Syscall{Name: "getppid"}))
			got := h.Attach(sdk.Container{}, nil).Handle(t.Context(), sdktest.Call{Syscall: "getppid"})
			if !strings.HasPrefix(got.String(), test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestHarnessAddFD(t *testing.T) {
	var ours *os.File
	// Registered first, it runs last: after the session has been detached.
	t.Cleanup(func() {
		if err := ours.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("the SDK left the descriptor open: %v", err)
		}
	})
	h := sdktest.Serve(t, newHandler(func(context.Context, *sdk.Request) (sdk.Response, error) {
		read, write, err := os.Pipe()
		if err != nil {
			return sdk.Response{}, err
		}
		defer write.Close()
		if _, err := write.WriteString("through"); err != nil {
			return sdk.Response{}, err
		}
		ours = read
		return sdk.AddFD(read, true), nil
	}, sdk.Syscall{Name: "getppid"}))
	got := h.Attach(sdk.Container{}, nil).Handle(t.Context(), sdktest.Call{Syscall: "getppid"})
	if got.Kind != sdktest.AddFD || !got.CloseOnExec {
		t.Fatalf("got %+v", got)
	}
	defer got.File.Close()
	text := make([]byte, 16)
	n, err := got.File.Read(text)
	if string(text[:n]) != "through" {
		t.Errorf("read %q, %v", text[:n], err)
	}
}

func TestHarnessReads(t *testing.T) {
	declared := sdk.Syscall{Name: "setxattr", Reads: []sdk.Read{
		sdk.ReadPath(0), sdk.ReadString(1, 8), sdk.ReadBytes(2, 3, 4), sdk.ReadStruct(4, 2)}}
	for name, test := range map[string]struct {
		reads  map[int]any
		length uint64
		want   string
	}{
		"values":   {map[int]any{0: "/a", 1: "user.x", 2: []byte("yz"), 4: "st"}, 2, `"/a" 0, "user.x" 0, "yz" 0, "st" 0`},
		"faults":   {map[int]any{0: unix.EFAULT, 1: unix.EFAULT, 2: unix.EFAULT, 4: unix.EFAULT}, 2, `"" 14, "" 14, "" 14, "" 14`},
		"too long": {map[int]any{0: strings.Repeat("a", 4096), 1: "user.xyz", 2: []byte("12345"), 4: "st"}, 5, `"" 36, "" 36, "" 7, "st" 0`},
		"empty":    {map[int]any{0: "", 1: "", 2: "", 4: "st"}, 0, `"" 0, "" 0, "" 0, "st" 0`},
	} {
		t.Run(name, func(t *testing.T) {
			var got string
			h := sdktest.Serve(t, newHandler(func(_ context.Context, req *sdk.Request) (sdk.Response, error) {
				var parts []string
				for _, i := range []int{0, 1, 2, 4} {
					text, fault := req.String(i)
					parts = append(parts, fmt.Sprintf("%q %d", text, int(fault)))
				}
				got = strings.Join(parts, ", ")
				return sdk.Continue(), nil
			}, declared))
			outcome := h.Attach(sdk.Container{}, nil).Handle(t.Context(), sdktest.Call{
				Syscall: "setxattr", Args: [6]uint64{3: test.length}, Reads: test.reads})
			if outcome.Kind != sdktest.Continue || got != test.want {
				t.Errorf("%v: got %s, want %s", outcome, got, test.want)
			}
		})
	}
}

func TestHarnessMemory(t *testing.T) {
	memory := map[uint64][]byte{0x1000: []byte("path\x00rest"), 0x2000: []byte("no end")}
	for name, test := range map[string]struct {
		address uint64
		n       int
		text    bool
		gone    bool
		want    string
	}{
		"bytes":           {address: 0x1000, n: 4, want: `"path" errno 0 <nil>`},
		"inside":          {address: 0x1005, n: 4, want: `"rest" errno 0 <nil>`},
		"over the end":    {address: 0x1005, n: 5, want: `"" bad address <nil>`},
		"elsewhere":       {address: 0x3000, n: 1, want: `"" bad address <nil>`},
		"string":          {address: 0x1000, n: 100, text: true, want: `"path" errno 0 <nil>`},
		"string too long": {address: 0x1000, n: 4, text: true, want: `"" file name too long <nil>`},
		"no NUL":          {address: 0x2000, n: 100, text: true, want: `"" bad address <nil>`},
		"gone":            {address: 0x1000, n: 4, gone: true, want: `"" errno 0 ` + sdk.ErrGone.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			var got string
			h := sdktest.Serve(t, newHandler(func(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
				var data []byte
				var fault syscall.Errno
				var err error
				if test.text {
					var text string
					text, fault, err = req.ReadString(ctx, test.address, test.n)
					data = []byte(text)
				} else {
					data, fault, err = req.Read(ctx, test.address, test.n)
				}
				got = fmt.Sprintf("%q %v %v", data, fault, err)
				if valid := req.CheckValid(ctx); errors.Is(valid, sdk.ErrGone) != test.gone {
					t.Errorf("CheckValid: %v", valid)
				}
				return sdk.Continue(), nil
			}, sdk.Syscall{Name: "getppid"}))
			h.Attach(sdk.Container{}, nil).Handle(t.Context(), sdktest.Call{Syscall: "getppid", Memory: memory, Gone: test.gone})
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestHarnessSettings(t *testing.T) {
	var got map[string]any
	var container sdk.Container
	trial := newHandler(always(sdk.Continue()), sdk.Syscall{Name: "getppid"})
	most := int64(9)
	trial.manifest.Settings = []sdk.Setting{
		{Key: "level", Type: sdk.Int, Default: 3, Max: &most},
		{Key: "names", Type: sdk.StringList, Default: []string{"a"}},
	}
	trial.attach = func(c sdk.Container, s sdk.Settings) error {
		container, got = c, map[string]any{}
		if err := s.Decode(&got); err != nil {
			return err
		}
		if got["level"] == 1.0 {
			return errors.New("level 1 is too low")
		}
		return nil
	}
	h := sdktest.Serve(t, trial)
	h.Attach(sdk.Container{ID: "c1", UIDMap: []sdk.IDMapping{{Inside: 0, Outside: 5, Length: 7}}}, map[string]any{"level": 4})
	if fmt.Sprint(got) != "map[level:4 names:[a]]" {
		t.Errorf("settings %v", got)
	}
	if container.ID != "c1" || container.UIDMap[0].Length != 7 {
		t.Errorf("container %+v", container)
	}
	for name, test := range map[string]struct {
		settings map[string]any
		want     string
	}{
		"by the handler": {map[string]any{"level": 1}, "level 1 is too low"},
		"out of range":   {map[string]any{"level": 10}, "setting level: 10: want 9 or less"},
		"wrong type":     {map[string]any{"names": 1}, "setting names: 1: want a list of strings"},
		"unknown":        {map[string]any{"color": "red"}, "setting color: trial has no such setting"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := h.Refusal(sdk.Container{}, test.settings); err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestHarnessContextEnds(t *testing.T) {
	entered := make(chan struct{})
	h := sdktest.Serve(t, newHandler(func(ctx context.Context, _ *sdk.Request) (sdk.Response, error) {
		close(entered)
		<-ctx.Done()
		return sdk.Response{}, ctx.Err()
	}, sdk.Syscall{Name: "getppid"}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	if got := h.Attach(sdk.Container{}, nil).Handle(ctx, sdktest.Call{Syscall: "getppid"}); got.Kind != sdktest.Gone {
		t.Errorf("got %v", got)
	}
}

// keeper is a session that has something kept.
type keeper struct{ kept map[string][]byte }

func (k keeper) Handle(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	if string(k.kept["key\xff"]) == "value" {
		return sdk.Return(2), req.Forget(ctx, "key\xff")
	}
	if err := req.Keep(ctx, "", nil); err == nil || !strings.Contains(err.Error(), "a key of 0 bytes") {
		return sdk.Response{}, fmt.Errorf("an empty key: %w", err)
	}
	return sdk.Return(1), req.Keep(ctx, "key\xff", []byte("value"))
}

func (k keeper) Manifest() sdk.Manifest {
	return newHandler(nil, sdk.Syscall{Name: "getppid"}).Manifest()
}

func (keeper) Attach(_ context.Context, c sdk.Container, _ sdk.Settings) (sdk.Session, error) {
	return keeper{c.Kept}, nil
}

// TestHarnessKept has a session keep something, which the next one finds and forgets.
func TestHarnessKept(t *testing.T) {
	h := sdktest.Serve(t, keeper{})
	var container sdk.Container
	for i, entries := range []int{1, 0, 1} {
		session := h.Attach(container, nil)
		want := fmt.Sprintf("value %d", 1+i%2)
		if got := session.Handle(t.Context(), sdktest.Call{Syscall: "getppid"}).String(); got != want || len(session.Kept()) != entries {
			t.Errorf("session %d: got %q, want %q; kept %q", i, got, want, session.Kept())
		}
		container.Kept = session.Kept()
	}
}
