package wire

import (
	"slices"
	"strings"
	"testing"
)

// switched takes getppid always, and getpid when the setting is on.
func switched(kind Setting_Type, value string) *Manifest {
	return &Manifest{
		Name: "p", Version: "1",
		Syscalls:  []*Syscall{{Name: "getppid"}, {Name: "getpid", IfSettings: []string{"key"}}},
		Settings:  []*Setting{{Key: "key", Type: kind, DefaultJson: value}},
		OnFailure: &Verdict{Kind: &Verdict_Continue{Continue: true}},
	}
}

func TestNarrow(t *testing.T) {
	for name, test := range map[string]struct {
		kind    Setting_Type
		off, on []string
	}{
		"bool":   {Setting_TYPE_BOOL, []string{"false"}, []string{"true"}},
		"int":    {Setting_TYPE_INT, []string{"0", "-0"}, []string{"1", "-20", "10"}},
		"string": {Setting_TYPE_STRING, []string{`""`}, []string{`"no"`, `" "`, `"0"`}},
		"list":   {Setting_TYPE_STRING_LIST, []string{"[]", "[ ]"}, []string{`["a"]`, `[""]`}},
		"table":  {Setting_TYPE_STRING_MAP, []string{"{}", "{\n}"}, []string{`{"a":"b"}`, `{"":""}`}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, value := range slices.Concat(test.off, test.on) {
				m := switched(test.kind, value)
				if err := CheckManifest(m); err != nil {
					t.Fatal(err)
				}
				want := 1
				if slices.Contains(test.on, value) {
					want = 2
				}
				if got := len(Narrow(m, `{"key": `+value+`, "other": true}`).GetSyscalls()); got != want || len(m.GetSyscalls()) != 2 {
					t.Errorf("%s: %d syscalls, want %d", value, got, want)
				}
			}
		})
	}
	for _, settings := range []string{"", "{}", "[]", `{"key":null}`, `{"KEY": 1}`, "not JSON"} {
		if got := Narrow(switched(Setting_TYPE_BOOL, "true"), settings).GetSyscalls(); len(got) != 1 || got[0].GetName() != "getppid" {
			t.Errorf("settings %q leave %v", settings, got)
		}
	}
}

func TestCheckManifestSwitch(t *testing.T) {
	m := switched(Setting_TYPE_BOOL, "true")
	m.Syscalls[1].IfSettings = []string{"kei"}
	if err := CheckManifest(m); err == nil || !strings.Contains(err.Error(), `syscall "getpid": there is no setting "kei"`) {
		t.Errorf("got %v", err)
	}
}
