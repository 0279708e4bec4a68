package setxattr

import (
	"regexp"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
)

func TestParseAttribute(t *testing.T) {
	longest := "trusted." + strings.Repeat("n", maxName-len("trusted."))
	const size = 77
	for text, want := range map[string]rule{
		"trusted.overlay.opaque=y": {name: "trusted.overlay.opaque", value: "y", hasValue: true, limit: 1},
		"trusted.a==":              {name: "trusted.a", value: "=", hasValue: true, limit: 1},
		"trusted.a=x=x":            {name: "trusted.a", value: "x=x", hasValue: true, limit: 3},
		"trusted..=.":              {name: "trusted..", value: ".", hasValue: true, limit: 1},
		longest + "=1":             {name: longest, value: "1", hasValue: true, limit: 1},
		longest:                    {name: longest, limit: size},
		"trusted.*":                {name: "trusted.", isPrefix: true, limit: size},
		"trusted.glusterfs.*":      {name: "trusted.glusterfs.", isPrefix: true, limit: size},
		"trusted.md*":              {name: "trusted.md", isPrefix: true, limit: size},
		"security.NTACL":           {name: "security.NTACL", limit: size},
		"security.NT*":             {name: "security.NT", isPrefix: true, limit: size},
		"security.sel":             {name: "security.sel", limit: size},
		"overlay.redirect":         {name: "trusted.overlay.redirect", limit: maxOverlayValue},
	} {
		if got, err := parseAttribute(text, size); err != nil || got != want {
			t.Errorf("%q is %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "=", "y", "*", "trusted.overlay.opaque=", "trusted.a=*", "trusted.=y", "trusted=y", "user.a=y",
		"user.a", "user.*", "trusted", "trusted.", "trusted*", "trusted.*.a", "trusted.a*b", "trusted.a*=y", "Trusted.a=y", "overlay.opaque",
		"overlay.*", "security.*", "security.capability", "security.cap*", "security.selinux", "security.s*", "security.ima=x",
		"security.apparmor", "security.evm", "security.SMACK64", "security.SMACK64EXEC", "security.SMACK64X*", "security.SM*",
		"system.posix_acl_access=y", "system.a", " trusted.a=y", "trusted.a =y", "trusted.a= y", "trusted.a= ", "trusted.a=\x00",
		"trusted.a=*y", "trusted.a=x=*", "trusted.a=a*b", "trusted.a=a b",
		"trusted.a=é", "trusted.é=y", "trusted.a\x00=y", "trusted.a=y\n", longest + "n=1", longest + "n", longest + "*"} {
		if got, err := parseAttribute(text, size); err == nil {
			t.Errorf("%q is %+v, want an error", text, got)
		}
	}
	for _, text := range []string{"trusted.a=*", "trusted.a=*y", "trusted.a=x=*"} {
		if _, err := parseAttribute(text, size); err == nil || !strings.HasSuffix(err.Error(), `to allow any value: "trusted.a"`) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestForms has messages of the broker and of the plugin that name every form.
func TestForms(t *testing.T) {
	h := sdktest.Serve(t, handler{})
	for _, text := range []string{"*", "trusted.x=*", "user.x", "overlay.foo", "trusted.x="} {
		_, parsed := parseAttribute(text, 1)
		refused := h.Refusal(sdk.Container{ID: "c"}, map[string]any{"attributes": []string{text}})
		if parsed == nil || refused == nil {
			t.Errorf("%q: %v and %v, want two errors", text, parsed, refused)
			continue
		}
		for _, form := range []string{"NAME=VALUE", "PREFIX*", "with any value", "trusted. or security.", `"overlay.metacopy"`, `no "*"`} {
			if !strings.Contains(refused.Error(), form) {
				t.Errorf("%q: %v, want %q in it", text, refused, form)
			}
		}
	}
}

// TestFindings has warnings of what containers may gain on the host.
func TestFindings(t *testing.T) {
	h := sdktest.Serve(t, handler{})
	for attribute, want := range map[string]string{
		"overlay.redirect": "of its lower layers: list it only", "overlay.metacopy": "list it only", "overlay.origin": "list it only",
		"trusted.overlay.redirect": "list it only", "trusted.overlay.redirect=/x": "list it only",
		"trusted.*": "a longer prefix", "trusted.overlay.*": "a longer prefix", "trusted.overlay.m*": "a longer prefix",
		"trusted.overlay.opaque": "", "trusted.overlay.op*": "", "trusted.glusterfs.*": "", "security.NTACL": "",
		"security.*": "!security modules",
	} {
		found := h.Findings(map[string]any{"attributes": []string{attribute}})
		text, refused := strings.CutPrefix(want, "!")
		switch {
		case want == "" && len(found) == 0:
		case want == "" || len(found) != 1,
			found[0].Warning == refused, found[0].Key != attributesSetting, !strings.Contains(found[0].Text, text),
			strings.Contains(found[0].Text, "\n"):
			t.Errorf("%s: %v, want %q", attribute, found, want)
		}
	}
	if found := h.Findings(nil); found != nil {
		t.Errorf("the defaults: %v", found)
	}
}

// FuzzParseAttribute holds what was read against its own text, and against the patterns that the broker checks.
func FuzzParseAttribute(f *testing.F) {
	for _, text := range append(defaultAttributes, "trusted.a==", "trusted.=y", "user.a=y",
		"trusted.a=\xff", "trusted.a=yy", "trusted.a", "security.*", "") {
		f.Add(text)
	}
	one, other := regexp.MustCompile(`^(?:`+oneCharacter+`)$`), regexp.MustCompile(`^(?:`+otherSizes+`)$`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseAttribute(text, 9)
		if err != nil {
			if wholePattern.MatchString(text) && !strings.Contains(err.Error(), "security modules") {
				t.Errorf("%q: %v, and the pattern takes it", text, err)
			}
			return
		}
		if one.MatchString(text) != (r.hasValue && len(r.value) == 1) || other.MatchString(text) == one.MatchString(text) {
			t.Errorf("%q is %+v, and needs other sizes", text, r)
		}
		if len(r.name) > maxName || !strings.HasPrefix(r.name, "trusted.") && !strings.HasPrefix(r.name, "security.") ||
			r.matches("security.capability") {
			t.Errorf("%q is %+v", text, r)
		}
	})
}

func TestPolicy(t *testing.T) {
	p, err := config{Attributes: []string{"trusted.a=1", "trusted.a=22", "trusted.b", "trusted.g.*"}, MaxSize: 3}.policy()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, value   string
		lists, allows bool
		longest       int
	}{
		{"trusted.a", "1", true, true, 2}, {"trusted.a", "22", true, true, 2},
		{"trusted.a", "2", true, false, 2}, {"trusted.a", "", true, false, 2},
		{"trusted.b", "", true, true, 3}, {"trusted.b", "333", true, true, 3}, {"trusted.b", "4444", true, false, 3},
		{"trusted.g.", "x", true, true, 3}, {"trusted.g.x", "\x00", true, true, 3}, {"trusted.g", "x", false, false, -1},
		{"trusted.c", "1", false, false, -1}, {"trusted.", "1", false, false, -1}, {"", "", false, false, -1},
	} {
		if p.lists(test.name) != test.lists || p.allows(test.name, test.value) != test.allows || p.longest(test.name) != test.longest {
			t.Errorf("%q = %q: %v, %v, %d", test.name, test.value, p.lists(test.name), p.allows(test.name, test.value), p.longest(test.name))
		}
	}
}

func TestSettings(t *testing.T) {
	h := sdktest.Serve(t, handler{})
	for name, settings := range map[string]map[string]any{
		"unknown key":    {"attribute": []string{"trusted.a=1"}},
		"no list":        {"attributes": "trusted.a=1"},
		"another kind":   {"attributes": []string{"trusted.a=1", "user.a=1"}},
		"any value":      {"attributes": []string{"trusted.a=*"}},
		"file's powers":  {"attributes": []string{"security.capability"}},
		"too large":      {"max_size": 65537},
		"read is a list": {"read": []string{"trusted.a"}},
	} {
		if err := h.Refusal(sdk.Container{ID: "c"}, settings); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, settings := range map[string]map[string]any{
		"defaults": nil, "an empty list": {"attributes": []string{}}, "reading": {"read": true},
		"names and values": {"attributes": []string{"trusted.a", "trusted.a=12", "trusted.glusterfs.*", "overlay.origin"}, "max_size": 65536},
	} {
		if err := h.Refusal(sdk.Container{ID: "c"}, settings); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
