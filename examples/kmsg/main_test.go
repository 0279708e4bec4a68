package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

func TestMain(m *testing.M) { sdktest.Main(m, handler{}) }

func TestScripts(t *testing.T) { sdktest.RunScripts(t, handler{}, "testdata", sdktest.Scripts{}) }

func TestFollow(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"lines":                    {"<6>one\n<6>two\n", "<6>one,<6>two"},
		"an empty one":             {"\n\na\n", "a"},
		"no end":                   {"a", "a"},
		"binary":                   {"a\xffb\n", "a?b"},
		"too long":                 {strings.Repeat("a", 5000) + "\nb\n", strings.Repeat("a", maxLine) + ",b"},
		"too long, without an end": {strings.Repeat("a", 5000), strings.Repeat("a", maxLine)},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			follow(strings.NewReader(test.text), slog.New(slog.NewTextHandler(&log, nil)), 0)
			var got []string
			for line := range strings.Lines(log.String()) {
				_, text, _ := strings.Cut(strings.TrimSpace(line), "text=")
				got = append(got, strings.Trim(text, `"`))
			}
			if strings.Join(got, ",") != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
