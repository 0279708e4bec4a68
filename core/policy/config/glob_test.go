package config

import (
	"path"
	"strings"
	"testing"
)

func TestGlob(t *testing.T) {
	for name, test := range map[string]struct {
		pattern string
		yes, no []string
	}{
		"literal":                              {"a.b", []string{"a.b"}, []string{"", "axb", "a.b\n", "xa.b", "A.B"}},
		"star":                                 {"a*c", []string{"ac", "abc", "a/b/c", "a\nc", "aüc"}, []string{"", "a", "acb"}},
		"every text":                           {"*", []string{"", "a/b", "\xff"}, nil},
		"question mark":                        {"?", []string{"a", "/", "ü", "\xff"}, []string{"", "ab"}},
		"class":                                {"[a-cx_]", []string{"a", "b", "c", "x", "_"}, []string{"", "d", "-", "ab"}},
		"negated class":                        {"[!a-c]", []string{"d", "/", "\n"}, []string{"a", ""}},
		"caret":                                {"[^a]", []string{"b", "^"}, []string{"a"}},
		"minus at an end":                      {"[a-]", []string{"a", "-"}, []string{"b"}},
		"escapes":                              {`\*[\]\-]\\`, []string{`*]\`, `*-\`}, []string{`x]\`, `*a\`}},
		"not a pattern of regular expressions": {"(a|b)+.{2}$", []string{"(a|b)+.{2}$"}, []string{"abxx"}},
		"image": {"registry.example.com/ci/*:v[0-9]*", []string{"registry.example.com/ci/a/b:v1.2"},
			[]string{"evil.com/registry.example.com/ci/a:v1"}},
		"empty": {"", []string{""}, []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := parseGlob(test.pattern)
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range test.yes {
				if !g.matches(text) {
					t.Errorf("%q does not match %q", test.pattern, text)
				}
			}
			for _, text := range test.no {
				if g.matches(text) {
					t.Errorf("%q matches %q", test.pattern, text)
				}
			}
		})
	}
}

func TestGlobTooLong(t *testing.T) {
	if _, err := parseGlob(strings.Repeat("a", maxGlob)); err != nil {
		t.Error(err)
	}
	if _, err := parseGlob(strings.Repeat("a", maxGlob+1)); err == nil {
		t.Error("accepted")
	}
}

// FuzzGlob: whatever the pattern, nothing panics; without a slash or a class, path.Match agrees.
func FuzzGlob(f *testing.F) {
	f.Add("build-*", "build-7")
	f.Add("[!a-c]?\\*", "dx*")
	f.Add("[a-]", "-")
	f.Add("[^", "x")
	f.Add("a\\", "a")
	f.Add("*[ü-ÿ]*", "\xff")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		g, err := parseGlob(pattern)
		if err != nil {
			return
		}
		matched := g.matches(text)
		if strings.Contains(pattern+text, "/") || strings.ContainsAny(pattern, "[") {
			return
		}
		if want, err := path.Match(pattern, text); err != nil || want != matched {
			t.Errorf("%q and %q: %v; path.Match says %v, %v", pattern, text, matched, want, err)
		}
	})
}
