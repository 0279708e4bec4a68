package mount

import (
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

// TestErrorsOfThisKernel makes calls whose errors depend on the kernel's version, and compares them with real root's.
func TestErrorsOfThisKernel(t *testing.T) {
	const fuseOptions = ",rootmode=40000,user_id=0,group_id=0"
	intercepted := withFuse(t, func(options ...sdktest.Option) *sdktest.Container {
		settings := map[string]any{"allowed": []string{"ext4"}, "fuse": map[string]string{"nothing": "nothing"}}
		return sdktest.NewContainer(t, handler{}, append(options, sdktest.WithSettings(settings))...)
	})
	realRoot := withFuse(t, func(options ...sdktest.Option) *sdktest.Container {
		return sdktest.NewContainer(t, handler{}, append(options, sdktest.WithRealRoot())...)
	})
	for what, test := range map[string]struct {
		fsopen bool
		script []string
		kind   string // of answer; "": any
	}{
		"FSCONFIG_SET_FD with an O_PATH descriptor": {
			true, []string{"fd fsopen s:ext4 0", "open /tmp O_PATH", "sys fsconfig @0 5 s:async null @1"}, ""},
		"fuseblk with a descriptor that is not open": {
			false, []string{"sys mount s:/dev/disk s:m s:fuseblk 0 s:fd=99" + fuseOptions}, "errno"},
		"fuseblk in a nested user namespace": {
			false, []string{"open /dev/fuse O_RDWR", "unshare user", "unshare mount",
				"sys mount s:/dev/disk s:m s:fuseblk 0 s:fd=3" + fuseOptions}, "next"},
	} {
		t.Run(what, func(t *testing.T) {
			if test.fsopen {
				sdktest.RequireKernel(t, "6.10", "F_DUPFD_QUERY")
			}
			result := intercepted.Call(t, within(test.script...)...)
			got, want := sdktest.Errnos(result.Lines(t)), sdktest.Errnos(realRoot.Call(t, within(test.script...)...).Lines(t))
			if got != want {
				t.Errorf("got %s, real root gets %s", got, want)
			}
			if !strings.HasSuffix(result.Kinds(), test.kind) {
				t.Errorf("answered by %s, want %s", result.Kinds(), test.kind)
			}
		})
	}
}
