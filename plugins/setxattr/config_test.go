package main

import (
	"maps"
	"regexp"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
)

func TestParseAttribute(t *testing.T) {
	longest := "trusted." + strings.Repeat("n", maxName-len("trusted."))
	for text, want := range map[string][2]string{
		"trusted.overlay.opaque=y": {"trusted.overlay.opaque", "y"},
		"trusted.overlay.opaque=x": {"trusted.overlay.opaque", "x"},
		"trusted.a==":              {"trusted.a", "="},
		"trusted..=.":              {"trusted..", "."},
		longest + "=1":             {longest, "1"},
	} {
		if name, value, err := parseAttribute(text); err != nil || name != want[0] || value != want[1] {
			t.Errorf("%q is %q and %q, %v", text, name, value, err)
		}
	}
	for _, text := range []string{"", "=", "y", "trusted.overlay.opaque", "trusted.overlay.opaque=", "trusted.overlay.opaque=yy",
		"trusted.=y", "trusted=y", "user.a=y", "security.capability=y", "system.posix_acl_access=y", "Trusted.a=y",
		" trusted.a=y", "trusted.a =y", "trusted.a= y", "trusted.a= ", "trusted.a=\x00", "trusted.a=é", "trusted.é=y",
		"trusted.a\x00=y", "trusted.a=y\n", longest + "n=1"} {
		if name, value, err := parseAttribute(text); err == nil {
			t.Errorf("%q is %q and %q, want an error", text, name, value)
		}
	}
}

// FuzzParseAttribute holds what was read against its own text, and against the pattern that the broker checks.
func FuzzParseAttribute(f *testing.F) {
	for _, text := range append(defaultAttributes, "trusted.a==", "trusted.=y", "user.a=y", "trusted.a=\xff", "trusted.a=yy", "") {
		f.Add(text)
	}
	pattern := regexp.MustCompile(`^(?:` + settings[0].Pattern + `)$`)
	f.Fuzz(func(t *testing.T, text string) {
		name, value, err := parseAttribute(text)
		if (err == nil) != pattern.MatchString(text) {
			t.Errorf("%q: %v, and the pattern says %v", text, err, pattern.MatchString(text))
		}
		if err == nil && (name+"="+value != text || len(value) != 1 || len(name) > maxName || !strings.HasPrefix(name, "trusted.")) {
			t.Errorf("%q is %q and %q", text, name, value)
		}
	})
}

func TestPolicy(t *testing.T) {
	p, err := config{Attributes: []string{"trusted.a=1", "trusted.a=2", "trusted.b=3"}}.policy()
	if err != nil || !maps.Equal(p, policy{"trusted.a": "12", "trusted.b": "3"}) {
		t.Fatalf("%v, %v", p, err)
	}
	for _, test := range []struct {
		name, value   string
		lists, allows bool
	}{
		{"trusted.a", "1", true, true}, {"trusted.a", "2", true, true}, {"trusted.b", "3", true, true},
		{"trusted.a", "3", true, false}, {"trusted.a", "12", true, false}, {"trusted.a", "", true, false},
		{"trusted.c", "1", false, false}, {"trusted.", "1", false, false}, {"", "", false, false},
	} {
		if p.lists(test.name) != test.lists || p.allows(test.name, test.value) != test.allows {
			t.Errorf("%q = %q: %v, %v", test.name, test.value, p.lists(test.name), p.allows(test.name, test.value))
		}
	}
}

func TestSettings(t *testing.T) {
	h := sdktest.Serve(t, handler{})
	for name, settings := range map[string]map[string]any{
		"unknown key":    {"attribute": []string{"trusted.a=1"}},
		"no list":        {"attributes": "trusted.a=1"},
		"another kind":   {"attributes": []string{"trusted.a=1", "user.a=1"}},
		"no value":       {"attributes": []string{"trusted.a"}},
		"longer value":   {"attributes": []string{"trusted.a=12"}},
		"read is a list": {"read": []string{"trusted.a"}},
	} {
		if err := h.Refusal(sdk.Container{ID: "c"}, settings); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, settings := range map[string]map[string]any{
		"defaults": nil, "an empty list": {"attributes": []string{}}, "reading": {"read": true},
	} {
		if err := h.Refusal(sdk.Container{ID: "c"}, settings); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
