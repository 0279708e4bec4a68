package config

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// withoutPlaces is a config with nothing of the text that it came from.
func withoutPlaces(c *Document) Document {
	bare := *c
	bare.places = nil
	return bare
}

// FuzzParse: no text makes Parse panic; every problem is one line and stands in the text; every key of TOML has a
// place, at which it stands; and a config without problems stays the same when it is written and parsed again.
func FuzzParse(f *testing.F) {
	shipped, err := os.ReadFile("../../../config.toml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(shipped))
	for _, test := range parseProblems {
		f.Add(test.text)
	}
	for _, test := range ruleProblems {
		f.Add(test.text)
	}
	f.Add("[plugins.every.config]\nflag = true\nlist = [\"a\", '''\nb''''']\nz_table = { \"a.b\" = \"c\", # x\n d.e = 1, }\n")
	f.Fuzz(func(t *testing.T, text string) {
		doc, problems := Parse(text, "config.toml", Options{})
		if doc != nil {
			checkPlaces(t, strings.TrimPrefix(text, "\ufeff"))
		}
		for _, p := range problems {
			if strings.ContainsAny(p.Error(), "\n\r") {
				t.Errorf("%q is more than one line", p.Error())
			}
			if lines := strings.Count(text, "\n") + 1; p.Line > lines || (p.Line > 0) != (p.Column > 0) {
				t.Errorf("%v: the text has %d lines", p, lines)
			}
		}
		if doc != nil && doc.Sound {
			checkRoundTrip(t, text, doc)
		}
	})
}

// checkPlaces holds the marks against the keys that the decoder saw.
func checkPlaces(t *testing.T, text string) {
	meta, err := toml.Decode(text, &map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	keys, marks := meta.Keys(), scanKeys(text)
	if len(keys) != len(marks) {
		t.Fatalf("%d marks for the keys %q", len(marks), keys)
	}
	for i, key := range keys {
		at := strings.TrimLeft(text[marks[i].offset:], "[ \t")
		if !strings.HasPrefix(at, `"`) && !strings.HasPrefix(at, "'") && !startsWithPart(at, key) {
			t.Errorf("the mark of %q is at %q", key, at)
		}
	}
}

func startsWithPart(text string, key toml.Key) bool {
	for _, part := range key {
		if strings.HasPrefix(text, part) {
			return true
		}
	}
	return false
}

func checkRoundTrip(t *testing.T, text string, config *Document) {
	var values map[string]any
	if _, err := toml.Decode(strings.TrimPrefix(text, "\ufeff"), &values); err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := toml.NewEncoder(&again).Encode(values); err != nil {
		return // what the encoder cannot write has no second form to compare with
	}
	second, problems := Parse(again.String(), "config.toml", Options{})
	if len(problems) > 0 {
		t.Fatalf("problems only the second time: %v\n%s", problems, again.String())
	}
	if a, b := withoutPlaces(config), withoutPlaces(second); !reflect.DeepEqual(a, b) && fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("%+v\nbecame %+v", a, b)
	}
}
