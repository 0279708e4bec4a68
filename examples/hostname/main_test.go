package main

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { sdktest.Main(m, plugin) }

// nodename is where struct utsname has the host name (uname(2)).
const nodename = 65

func TestUname(t *testing.T) {
	c := sdktest.NewContainer(t, plugin, sdktest.WithSettings(map[string]any{"name": "web1.test"}))
	result := c.Call(t, fmt.Sprintf("sys %d buf:390", unix.SYS_UNAME), fmt.Sprintf("sys %d bad", unix.SYS_UNAME),
		fmt.Sprintf("sys %d s:mine 4", unix.SYS_SETHOSTNAME))
	lines := result.Lines(t)
	if got := sdktest.Errnos(lines); got != "ok EFAULT EPERM" {
		t.Fatalf("the caller got %s", got)
	}
	if name, _, _ := bytes.Cut(lines[0].Bufs[0][nodename:], []byte{0}); string(name) != "web1.test" {
		t.Errorf("the caller is on %q", name)
	}
}

// TestOff has a container without the setting: nothing is intercepted.
func TestOff(t *testing.T) {
	result := sdktest.NewContainer(t, plugin).Call(t, fmt.Sprintf("sys %d buf:390", unix.SYS_UNAME))
	if len(result.Calls) != 0 {
		t.Errorf("calls %+v", result.Calls)
	}
}

func TestSettings(t *testing.T) {
	harness := sdktest.Serve(t, plugin)
	for name, good := range map[string]bool{"": true, "web-1.test": true, "two words": false} {
		if err := harness.Refusal(sdk.Container{ID: "c"}, map[string]any{"name": name}); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}
