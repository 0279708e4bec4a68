package sdktest_test

import (
	"fmt"
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

func TestPairFindsDifferences(t *testing.T) {
	const script = "sys getppid"
	for name, test := range map[string]struct {
		response    sdk.Response
		want, kinds string
		alike       func([]sdktest.Line) []sdktest.Line
		said        []string // the beginnings
	}{
		"same":    {sdk.Continue(), "ok", "continue", nil, nil},
		"kinds":   {sdk.Continue(), "ok", "value", nil, []string{"the calls were answered by"}},
		"printed": {sdk.Return(99), "ok", "value", nil, []string{"the caller gets"}},
		"alike":   {sdk.Return(99), "ok", "value", func([]sdktest.Line) []sdktest.Line { return nil }, nil},
		"errno":   {sdk.Errno(unix.EXDEV), "ok", "errno", nil, []string{"the caller gets EXDEV", "the caller gets"}},
		"root":    {sdk.Errno(unix.EXDEV), "EXDEV", "errno", nil, []string{"real root gets ok", "the caller gets"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := sdktest.NewPair(t, sdktest.InProcess(newHandler(always(test.response), sdk.Syscall{Name: "getppid"})))
			p.Alike = test.alike
			f := &failures{TB: t}
			p.Compare(f, test.want, test.kinds, script)
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

func TestHold(t *testing.T) {
	for _, when := range []sdktest.Moment{sdktest.BeforeWork, sdktest.AfterWork} {
		t.Run(string(when), func(t *testing.T) {
			hold := sdktest.NewHold(newHandler(always(sdk.Return(7)), sdk.Syscall{Name: "getppid"}), when, nil)
			c := sdktest.NewContainer(t, hold)
			hold.KillCaller(t, c, "sys getppid")
			if got := line(c.Call(t, "sys getppid").Lines(t)[0]); got != "7 0" {
				t.Errorf("the next caller got %s", got)
			}
		})
	}
}
