package sdktest_test

import (
	"slices"
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
)

// TestContainerCompat has a plugin take native calls alone, and i386 programs make them by every way that there is.
func TestContainerCompat(t *testing.T) {
	c := sdktest.NewContainer(t, sdktest.InProcess(newHandler(always(sdk.Return(7)),
		sdk.Syscall{Name: "connect", Compat: sdk.CompatRefuse}, sdk.Syscall{Name: "listen", Compat: sdk.CompatContinue},
		sdk.Syscall{Name: "semget", Compat: sdk.CompatRefuse})))
	native := c.Call(t, "sys 42 -1 null 0", "sys 50 -1 0", "sys 64 0 -1 0")
	const connect, listen = "102 3 hex:ffffffff0000000000000000", "102 4 hex:ffffffff0000000000000000"
	i386 := c.Call32(t, "sys 362 -1 null 0", "sys 363 -1 0", "sys 393 0 -1 0", "sys "+connect, "sys "+listen,
		"sys 117 2 0 -1", "sys 117 0x10002 0 -1")
	for _, test := range []struct {
		result sdktest.Result
		want   []string
		kinds  string
	}{
		{native, []string{"7 0", "7 0", "7 0"}, "value value value"},
		{i386, []string{"-1 1", "-1 9", "-1 1", "-1 1", "-1 9", "-1 1", "-1 1"}, "errno errno errno errno errno"},
	} {
		var got []string
		for _, l := range test.result.Lines(t) {
			got = append(got, line(l))
		}
		if !slices.Equal(got, test.want) || test.result.Kinds() != test.kinds {
			t.Errorf("%q (%s), want %q (%s)", got, test.result.Kinds(), test.want, test.kinds)
		}
	}
}
