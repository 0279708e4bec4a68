package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// TestScanKeys marks keys with « and the elements of arrays with ‹ in the text itself.
func TestScanKeys(t *testing.T) {
	for name, marked := range map[string]string{
		"nothing":                         "# a = 1",
		"headers":                         "«[a]\n  «[ b . 'c]' ]\n«[[\"d]\".e]] # [f]\n",
		"keys":                            "«a=1\n «b . c = 2\n«\"d = 1\" = 3\n«'e#' = 4",
		"bare values":                     "«a = 1979-05-27 07:32:00 # b = 1\n«c = -inf\r\n«d = 0x1\n",
		"escaped quote":                   "«a = \"x\\\" y\"\n«b = \"\\\\\"\n«c = 1",
		"no escapes in a literal string":  "«a = '\\'\n«b = 'x\\' # y'\n",
		"empty strings":                   "«a = \"\"\n«b = ''\n«c = \"\"\"\"\"\"\n«d = ''''''\n«e = 1",
		"multi-line string with keys":     "«a = \"\"\"\nb = 1\n[c]\n\"\"\"\n«d = '''\ne = 1\n'''\n«f = 1",
		"multi-line escaped quotes":       "«a = \"\"\"x\\\"\"\" y\"\"\"\n«b = 1",
		"one quote before the delimiter":  "«a = '''x''''\n«b = \"\"\"x\"\"\"\"\n«c = 1",
		"two quotes before the delimiter": "«a = [‹'''x''''', ‹\"\"\"x\"\"\"\"\", ‹1]\n«b = 1",
		"array":                           "«a = [‹1, ‹\"],\", # ], 2\n ‹'x',\n]\n«b = []",
		"nested arrays":                   "«a = [ ‹[1, [2]], ‹[], ]\n«b = 1",
		"inline table":                    "«a = { «b = 1, «c.d = \"}\", # }\n «'e' = {«f = [‹1]}, }\n«g = {}",
		"tables in an array":              "«a = [ ‹{«b = 1}, ‹{«b = [‹2]} ]\n",
	} {
		t.Run(name, func(t *testing.T) {
			text, keys, elements := unmark(marked)
			meta, err := toml.Decode(text, &map[string]any{})
			if err != nil {
				t.Fatal(err)
			}
			var gotKeys, gotElements []int
			for _, m := range scanKeys(text) {
				gotKeys = append(gotKeys, m.offset)
				gotElements = append(gotElements, m.elements...)
			}
			slices.Sort(gotElements)
			if !slices.Equal(gotKeys, keys) || !slices.Equal(gotElements, elements) {
				t.Errorf("keys at %v, elements at %v; want %v, %v", gotKeys, gotElements, keys, elements)
			}
			if len(meta.Keys()) != len(keys) {
				t.Errorf("the decoder sees %q", meta.Keys())
			}
		})
	}
}

// unmark removes the marks, and returns the offsets of what they stood before.
func unmark(marked string) (text string, keys, elements []int) {
	var b strings.Builder
	for _, r := range marked {
		switch r {
		case '«':
			keys = append(keys, b.Len())
		case '‹':
			elements = append(elements, b.Len())
		default:
			b.WriteRune(r)
		}
	}
	return b.String(), keys, elements
}
