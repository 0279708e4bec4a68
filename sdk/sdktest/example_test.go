package sdktest_test

import (
	"context"
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// plugin refuses host names that are longer than the setting "most".
var plugin = sdk.Func(
	sdk.Manifest{
		Name: "hostname", Version: "1.0.0", Syscalls: []sdk.Syscall{{Name: "sethostname"}}, OnFailure: sdk.FailErrno(unix.EPERM),
	},
	struct {
		Most uint8 `json:"most"`
	}{16},
	func(_ context.Context, req *sdk.Request, c *struct {
		Most uint8 `json:"most"`
	}) (sdk.Response, error) {
		if req.Args[1] > uint64(c.Most) {
			return sdk.Errno(unix.ENAMETOOLONG), nil
		}
		return sdk.Next(), nil // sethostname(2) checks all else
	},
)

// What a handler decides, tried with fake calls: no privilege, no kernel.
func ExampleServe() {
	_ = func(t *testing.T) { // func TestDecision(t *testing.T)
		session := sdktest.Serve(t, plugin).Attach(sdk.Container{ID: "c1"}, map[string]any{"most": 4})
		for length, want := range map[uint64]string{4: "next", 5: "errno ENAMETOOLONG (36)"} {
			got := session.Handle(t.Context(), sdktest.Call{Syscall: "sethostname", Args: [6]uint64{0x1000, length}})
			if got.String() != want {
				t.Errorf("length %d: %v, want %s", length, got, want)
			}
		}
	}
}

// What becomes of real calls: the handler in its sandbox, the callers in a container.
func ExampleNewContainer() {
	_ = func(m *testing.M) { sdktest.Main(m, plugin) } // func TestMain(m *testing.M)

	_ = func(t *testing.T) { // func TestCalls(t *testing.T)
		c := sdktest.NewContainer(t, plugin, sdktest.WithSettings(map[string]any{"most": 4}))
		lines := c.Call(t, "sys sethostname s:web 3", "sys sethostname s:webserver 9").Lines(t)
		if lines[0].Errno != 0 || lines[1].Errno != unix.ENAMETOOLONG {
			t.Errorf("%+v", lines)
		}
	}
}

// Calls that need no Go code between them are scripts.
func ExampleRunScripts() {
	_ = func(t *testing.T) { // func TestScripts(t *testing.T)
		sdktest.RunScripts(t, plugin, "testdata", sdktest.Scripts{})
	}
}
