package wire_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/wire"
)

// TestRefusedText has messages that say which values there are.
func TestRefusedText(t *testing.T) {
	const help = `as MAJOR:MINOR, or "*"`
	for want, s := range map[string]*wire.Setting{
		`"x": want "host" or "container"`:               {Pattern: "host|container", Example: "container", Help: help},
		`"x": want "a", "b-c" or "d_1"`:                 {Pattern: "a|b-c|d_1"},
		`"x": want something like "1:3" (` + help + `)`: {Pattern: `\*|[0-9]+:[0-9]+`, Example: "1:3", Help: help},
		`"x": want something like "1:3"`:                {Pattern: `\*|[0-9]+:[0-9]+`, Example: "1:3"},
		`"x": does not match |a (` + help + `)`:         {Pattern: "|a", Help: help},
		`"x": does not match a|.b`:                      {Pattern: "a|.b"},
		`"x": does not match a`:                         {Pattern: "a"},
	} {
		for settingType, value := range map[wire.Setting_Type]string{
			wire.Setting_TYPE_STRING: `"x"`, wire.Setting_TYPE_STRING_LIST: `["x"]`, wire.Setting_TYPE_STRING_MAP: `{"k": "x"}`,
		} {
			s.Type = settingType
			if err := wire.CheckSetting(s, json.RawMessage(value)); err == nil || err.Error() != want {
				t.Errorf("%v: got %v, want %s", settingType, err, want)
			}
			if err := wire.CheckSetting(s, json.RawMessage(strings.ReplaceAll(value, "x", s.GetExample()))); s.GetExample() != "" && err != nil {
				t.Errorf("%v: the example: %v", settingType, err)
			}
		}
	}
}
