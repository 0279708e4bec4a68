package sdktest_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// failures keeps what a test says of its failure.
type failures struct {
	testing.TB
	said []string
}

func (f *failures) Errorf(format string, args ...any) {
	f.said = append(f.said, fmt.Sprintf(format, args...))
}

// TestScriptFindsDifferences has a plugin that answers getppid(2) with each response.
func TestScriptFindsDifferences(t *testing.T) {
	added := func(context.Context, *sdk.Request) (sdk.Response, error) {
		null, err := os.Open(os.DevNull)
		return sdk.AddFD(null, true), err
	}
	for name, test := range map[string]struct {
		handle func(context.Context, *sdk.Request) (sdk.Response, error)
		script string // of the one case
		said   []string
	}{
		"same": {always(sdk.Continue()), "sys getppid = ok continue", nil},
		"kind": {always(sdk.Continue()), "sys getppid = ok value",
			[]string{"trial.script:2: sys getppid: answered by continue, want value"}},
		"not asked": {always(sdk.Continue()), "sys close 0 = ok continue\nsys getppid = ok continue",
			[]string{"trial.script:2: sys close 0: the plugin was not asked, want continue"}},
		"asked": {always(sdk.Return(1)), "do getppid\nsys getppid = ok value",
			[]string{"trial.script:1: the plugin was asked about getppid, which no line expects: value 1"}},
		"printed": {always(sdk.Return(99)), "mkdir d\nsys getppid = ok value",
			[]string{"trial.script:3: sys getppid: got\n{Op:sys Ret:99"}},
		"printed, compared with nothing": {always(sdk.Return(99)), "compare nothing\nsys getppid = ok value", nil},
		"errno": {always(sdk.Errno(unix.EXDEV)), "sys getppid = ok continue",
			[]string{"trial.script:2: sys getppid: got EXDEV, want ok", "trial.script:2: sys getppid: answered by errno EXDEV (18), want continue"}},
		"errno of root": {always(sdk.Errno(unix.EXDEV)), "sys getppid = EXDEV errno",
			[]string{"trial.script:2: sys getppid: real root gets ok, want EXDEV"}},
		"errno without the plugin": {always(sdk.Errno(unix.EXDEV)), "compare unintercepted\nsys getppid = EXDEV errno",
			[]string{"trial.script:3: sys getppid: a caller without the plugin gets ok, want EXDEV"}},
		"setup": {always(sdk.Continue()), "sys getppid = ok continue\nchdir no\nsys getppid = ok continue", []string{
			"trial.script:3: chdir no: the caller cannot go on: chdir no: No such file or directory",
			"trial.script:3: chdir no: real root cannot go on: chdir no: No such file or directory"}},
		"32 bits":             {always(sdk.Continue()), "abi 32\nsys getppid = ok continue", nil},
		"any call":            {always(sdk.Continue()), "sys statx AT_FDCWD null 0 0 bad = EFAULT\nsys timerfd_gettime -1 null = EBADF", nil},
		"any call of 32 bits": {always(sdk.Continue()), "abi 32\nsys stat64 s:no null = ENOENT\nsys _llseek -1 0 0 null 0 = EBADF", nil},
		"descriptor":          {added, "compare nothing\nfd getppid = ok addfd\nsys fcntl @-1 F_GETFD = ok", nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := &failures{TB: t}
			h := sdktest.InProcess(newHandler(test.handle, sdk.Syscall{Name: "getppid"}))
			sdktest.RunScript(t, f, h, sdktest.Scripts{}, "case one\n\t"+strings.ReplaceAll(test.script, "\n", "\n\t"))
			if len(f.said) != len(test.said) {
				t.Fatalf("said %q, want %q", f.said, test.said)
			}
			for i, said := range f.said {
				if !strings.HasPrefix(said, test.said[i]) {
					t.Errorf("said %q, want %q", said, test.said[i])
				}
			}
		})
	}
}

// TestScriptEnvironment has an environment with a file, and results that are alike without their return values.
func TestScriptEnvironment(t *testing.T) {
	var asRoot []bool
	s := sdktest.Scripts{
		On: map[string]sdktest.Environment{"file": func(t testing.TB, new func(...sdktest.Option) *sdktest.Container) *sdktest.Container {
			c := new()
			asRoot = append(asRoot, c.Identity().UIDMap[0].Outside == 0)
			if err := os.WriteFile(c.Rootfs()+"/file", nil, 0o644); err != nil {
				t.Fatal(err)
			}
			return c
		}},
		Alike: func(l *sdktest.Line) { l.Ret = 0 },
	}
	trial := newHandler(always(sdk.Return(7)), sdk.Syscall{Name: "getppid"})
	trial.manifest.Settings = []sdk.Setting{{Key: "level", Type: sdk.Int, Default: 3}}
	var levels []int
	trial.attach = func(_ sdk.Container, s sdk.Settings) error {
		var settings struct{ Level int }
		err := s.Decode(&settings)
		levels = append(levels, settings.Level)
		return err
	}
	sdktest.RunScript(t, t, sdktest.InProcess(trial), s, `
on file
setting level 4
case first
	sys getppid = ok value
	openfile /file O_RDONLY = ok
case second
	openfile /file O_RDONLY = ok
case third
	setting level 5
	openfile /file O_RDONLY = ok
`)
	if len(asRoot) != 3 || asRoot[0] || !asRoot[1] || asRoot[2] {
		t.Errorf("containers with real root: %v", asRoot)
	}
	if len(levels) != 2 || levels[0] != 4 || levels[1] != 5 {
		t.Errorf("levels: %v", levels)
	}
}

// TestScriptOfPluginThatTakesItsPreamble has a plugin that is asked about what the runner itself does before a case.
func TestScriptOfPluginThatTakesItsPreamble(t *testing.T) {
	h := sdktest.InProcess(newHandler(always(sdk.Continue()),
		sdk.Syscall{Name: "umask"}, sdk.Syscall{Name: "mkdir"}, sdk.Syscall{Name: "mkdirat"}, sdk.Syscall{Name: "chdir"}))
	sdktest.RunScript(t, t, h, sdktest.Scripts{}, "case one\n\tsys mkdir s:d 0755 = ok continue\n\tsys mkdir s:d 0755 = EEXIST continue")
}
