package broker

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// reasonLine is what the log's line of a call has of its reason, whose text begins so.
func reasonLine(code, text string) string {
	return strings.TrimSuffix(fmt.Sprintf(`"reason":%q,"because":%q`, code, text), `"`)
}

// TestReasons has calls end in ways that have reasons, the plugin's and the broker's own.
func TestReasons(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}})
	c := b.attach(t)
	for name, test := range map[string]struct {
		op         testplugin.Op
		a          uint64
		code, text string
	}{
		"none":             {testplugin.Return, 42, "", ""},
		"given":            {testplugin.Explain, 0, "trial", ""},
		"made safe":        {testplugin.Explain, 2, "trial", `\n\n`},
		"cut":              {testplugin.Explain, 1000, "trial", strings.Repeat(`\n`, 126) + "..."},
		"undeclared":       {testplugin.ExplainOther, 0, codeUndeclared, "it is not declared"},
		"next without one": {testplugin.Next, 0, codeNotWanted, ""},
		"failed":           {testplugin.Error, 0, codeFailed, "it did not work"},
		"not written":      {testplugin.Write, 1, codeNotWritten, ""},
	} {
		t.Run(name, func(t *testing.T) {
			const call, explained = `"message":"call"`, `"reason":`
			want := explained
			if test.code != "" {
				want = reasonLine(test.code, test.text)
			}
			calls, before := b.log.count(call), b.log.count(call, want)
			ask(t, c, test.op, test.a, 1)
			b.log.await(t, calls+1, call)
			if got := b.log.count(call, want) > before; got != (test.code != "") {
				t.Errorf("the record has a reason %s: %v\n%s", want, got, b.log.text.String())
			}
		})
	}
	c.Call(t, unix.SYS_GETPPID)
	b.log.await(t, 1, `"message":"call"`, reasonLine(codeNotTaken, ""))
	ask(t, c, testplugin.Exit) // at last: calls that come at once may find the plugin dead too
	b.log.await(t, 1, `"message":"call"`, reasonLine(codeDied, "the plugin died"))
}

// TestBrokersReasons checks the table: a manifest might have it.
func TestBrokersReasons(t *testing.T) {
	if err := wire.CheckManifest(&wire.Manifest{
		Name: "broker", Version: "1", Syscalls: []*wire.Syscall{{Name: "getppid"}}, Reasons: Reasons,
		OnFailure: &wire.Verdict{Kind: &wire.Verdict_Continue{Continue: true}},
	}); err != nil {
		t.Error(err)
	}
	all := &wire.Manifest{Reasons: Reasons}
	for _, cause := range causes {
		if !all.Declares(&wire.Reason{Code: cause.code}) {
			t.Errorf("%s is not in Reasons", cause.code)
		}
		if got := failureReason(fmt.Errorf("so: %w", cause.err)); got.Code != cause.code {
			t.Errorf("%v is %s, want %s", cause.err, got.Code, cause.code)
		}
	}
}

// TestReasonsPage compares the page's list with the table.
func TestReasonsPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/why.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n### Reasons of the broker\n")
	for _, r := range Reasons {
		line := fmt.Sprintf("\n- `%s` - %s\n", r.GetCode(), r.GetHelp())
		before, after, found := strings.Cut(section, line)
		if !found || strings.Contains(before, "\n- ") {
			t.Errorf("the page does not have, in the code's order: %s", line)
		}
		section = "\n" + after
	}
	if strings.Contains(section, "\n- ") {
		t.Errorf("the page has more than the code: %s", section)
	}
}
