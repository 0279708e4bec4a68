package ociruntime

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestReplaceSeccomp(t *testing.T) {
	for name, test := range map[string]struct{ text, want, fault string }{
		"in its place": {`{"a" : 1e2, "linux":{ "seccomp" : {"x":[1]} , "b":"é<"}}`,
			`{"a" : 1e2, "linux":{ "seccomp" : NEW , "b":"é<"}}`, ""},
		"null":                {`{"linux":{"seccomp":null}}`, `{"linux":{"seccomp":NEW}}`, ""},
		"none":                {"{\"linux\":\n {\"b\":1}}", "{\"linux\":\n {\"seccomp\":NEW,\"b\":1}}", ""},
		"an empty object":     {`{"linux":{ } , "c": "linux"}`, `{"linux":{"seccomp":NEW } , "c": "linux"}`, ""},
		"elsewhere too":       {`{"linux":{"a":{"seccomp":1}},"seccomp":2}`, `{"linux":{"seccomp":NEW,"a":{"seccomp":1}},"seccomp":2}`, ""},
		"escaped":             {`{"linu\u0078":{"\u0073eccomp":1}}`, `{"linu\u0078":{"\u0073eccomp":NEW}}`, ""},
		"no linux":            {`{"a":1}`, "", `no object "linux"`},
		"linux is no object":  {`{"linux":[]}`, "", `no object "linux"`},
		"linux is null":       {`{"linux":null}`, "", `no object "linux"`},
		"linux twice":         {`{"linux":{},"linux":{}}`, "", `"linux" is there twice`},
		"seccomp twice":       {`{"linux":{"seccomp":1,"seccomp":2}}`, "", `linux: the key "seccomp" is there twice`},
		"in another case":     {`{"Linux":{}}`, "", "in another case"},
		"in another case too": {`{"linux":{"secComp":1,"seccomp":1}}`, "", "in another case"},
		"a list":              {`[]`, "", "want a JSON object"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := replaceSeccomp([]byte(test.text), []byte("NEW"))
			switch {
			case test.fault != "":
				if err == nil || !strings.Contains(err.Error(), test.fault) {
					t.Errorf("%s, %v; want an error with %q", got, err, test.fault)
				}
			case err != nil || string(got) != test.want:
				t.Errorf("%s, %v\nwant %s", got, err, test.want)
			}
		})
	}
}

// Whatever JSON comes, the result is the same but for linux.seccomp.
func FuzzReplaceSeccomp(f *testing.F) {
	f.Add([]byte(`{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW"},"x":[1,2.50]},"process":{"args":["a"]}}`))
	f.Add([]byte(" {\"linux\" : { } }\n"))
	f.Add([]byte(`{"linux":{"a":1},"LINUX":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if !json.Valid(text) {
			return // readConfigFile has refused it
		}
		edited, err := replaceSeccomp(text, []byte(`{"new":true}`))
		if err != nil {
			return
		}
		before, after := decodeAll(t, text), decodeAll(t, edited)
		linux := after["linux"].(map[string]any)
		if !reflect.DeepEqual(linux["seccomp"], map[string]any{"new": true}) {
			t.Fatalf("seccomp is %v in %s", linux["seccomp"], edited)
		}
		delete(linux, "seccomp")
		delete(before["linux"].(map[string]any), "seccomp")
		if !reflect.DeepEqual(before, after) {
			t.Errorf("%s\nbecame %s", text, edited)
		}
	})
}

func decodeAll(t *testing.T, text []byte) map[string]any {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value map[string]any
	if err := decoder.Decode(&value); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return value
}
