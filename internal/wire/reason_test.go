package wire

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "",
		"c 1:1 is not listed":    "c 1:1 is not listed",
		"größer":                 "größer",
		"12345678901234567890":   "12345678901234567890",
		"123456789012345678901":  "12345678901234567...",
		"a\nb\x1b[2J":            `a\nb\x1b[2J`,
		"\u202eevil":             `\u202eevil`,
		"\xff\xfe":               `\xff\xfe`,
		"\n\n\n\n\n\n\n\n\n\n":   `\n\n\n\n\n\n\n\n\n\n`,
		"\n\n\n\n\n\n\n\n\n\n\n": `\n\n\n\n\n\n\n\n...`,
		"1234567890123456789é":   "12345678901234567...",
	} {
		if got := Plain(text, 20); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func FuzzPlain(f *testing.F) {
	f.Add("c 1:1\n", 20)
	f.Fuzz(func(t *testing.T, text string, max int) {
		if max < len(cut) || max > 1000 {
			return
		}
		got := Plain(text, max)
		if len(got) > max || !utf8.ValidString(got) {
			t.Errorf("%q is %q", text, got)
		}
		for _, r := range got {
			if !strconv.IsPrint(r) {
				t.Errorf("%q in %q", r, got)
			}
		}
	})
}

func explained(reasons []*ReasonCode) *Manifest {
	return &Manifest{
		Name: "trial", Version: "1", Syscalls: []*Syscall{{Name: "getppid"}}, Reasons: reasons,
		OnFailure: &Verdict{Kind: &Verdict_Continue{Continue: true}},
	}
}

func TestCheckReasons(t *testing.T) {
	many := make([]*ReasonCode, MaxReasons+1)
	for i := range many {
		many[i] = &ReasonCode{Code: fmt.Sprintf("code_%d", i), Help: "x"}
	}
	for want, reasons := range map[string][]*ReasonCode{
		`reason "Not": want a lower-case letter`: {{Code: "Not", Help: "x"}},
		`reason "": want`:                        {{Help: "x"}},
		`reason "` + strings.Repeat("x", 41):     {{Code: strings.Repeat("x", 41), Help: "x"}},
		"reason twice: given twice":              {{Code: "twice", Help: "x"}, {Code: "twice", Help: "y"}},
		"reason mute: no help":                   {{Code: "mute"}},
		"reason two: help":                       {{Code: "two", Help: "a\nb"}},
		"65 reasons: the limit is 64":            many,
	} {
		m := explained(reasons)
		if err := CheckManifest(m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q", err, want)
		}
	}
	m := explained(many[:MaxReasons])
	if err := CheckManifest(m); err != nil {
		t.Error(err)
	}
}
