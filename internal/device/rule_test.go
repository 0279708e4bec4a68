package device

import (
	"slices"
	"testing"
)

func TestParseRules(t *testing.T) {
	texts := []string{"c 10:229 rwm", "b *:* r", "c 1:3 m"}
	got, err := ParseRules(texts)
	want := []Rule{
		{Major: 10, Minor: 229, Access: Read | Write | Make},
		{Block: true, Major: Any, Minor: Any, Access: Read},
		{Major: 1, Minor: 3, Access: Make},
	}
	if !slices.Equal(got, want) || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	for i, rule := range got {
		if rule.String() != texts[i] {
			t.Errorf("%q became %q", texts[i], rule)
		}
	}
	for _, bad := range []string{"", "c", "c 1:3", "a *:* rwm", "c 1:3 x", "c 4096:0 r", "c 0:1048576 r", "c -1:3 r", "c  1:3 r"} {
		if _, err := ParseRules([]string{bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
