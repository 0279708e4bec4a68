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

func TestNarrowMatches(t *testing.T) {
	m := &Manifest{
		Name: "p", Version: "1",
		Syscalls: []*Syscall{{Name: "setxattr", When: []*Match{
			{All: []*Condition{{Arg: 3, Mask: 1, Value: 1}}, Settings: []*SettingCondition{{Key: "list", Pattern: "a.?"}}},
			{All: []*Condition{{Arg: 3, Mask: 2, Value: 2}}, Settings: []*SettingCondition{{Key: "list", Pattern: "b"}, {Key: "on"}}},
		}}},
		Settings: []*Setting{
			{Key: "list", Type: Setting_TYPE_STRING_LIST, DefaultJson: "[]"}, {Key: "on", Type: Setting_TYPE_BOOL, DefaultJson: "false"},
		},
		OnFailure: &Verdict{Kind: &Verdict_Continue{Continue: true}},
	}
	if err := CheckManifest(m); err != nil {
		t.Fatal(err)
	}
	for settings, want := range map[string][]uint64{
		`{"list":["ab"],"on":false}`: {1}, `{"list":["a","b"],"on":true}`: {1, 2}, `{"list":["b"],"on":true}`: {2},
		`{"list":["b"],"on":false}`: nil, `{"list":["abc","xa"],"on":true}`: nil, `{"list":[]}`: nil, `{"list":"a"}`: nil,
	} {
		var got []uint64
		for _, s := range Narrow(m, settings).GetSyscalls() {
			for _, match := range s.GetWhen() {
				got = append(got, match.GetAll()[0].GetMask())
			}
		}
		if !slices.Equal(got, want) || len(m.Syscalls[0].When) != 2 {
			t.Errorf("%s leaves %v, want %v", settings, got, want)
		}
	}
	m.Syscalls[0].When[0].Settings[0].Key = "other"
	m.Syscalls[0].When[1].Settings[0].Pattern = "("
	if err := CheckManifest(m); err == nil || !strings.Contains(err.Error(), `"other"`) || !strings.Contains(err.Error(), "missing closing") {
		t.Errorf("got %v", err)
	}
}

func TestCheckManifestSwitch(t *testing.T) {
	m := switched(Setting_TYPE_BOOL, "true")
	m.Syscalls[1].IfSettings = []string{"kei"}
	if err := CheckManifest(m); err == nil || !strings.Contains(err.Error(), `syscall "getpid": there is no setting "kei"`) {
		t.Errorf("got %v", err)
	}
}
