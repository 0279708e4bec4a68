package wire

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"

	"google.golang.org/protobuf/proto"
)

// Narrow is the manifest without the syscalls, and the matches of syscalls, that the settings leave switched off: the
// same one if none is, else one that shares all else with it. Settings are a JSON object that has every key of the
// manifest, each with a value that CheckSetting accepts.
func Narrow(m *Manifest, settings string) *Manifest {
	var values map[string]json.RawMessage
	json.Unmarshal([]byte(settings), &values) // what is no object switches nothing on
	var left []*Syscall
	for _, s := range m.GetSyscalls() {
		if s = s.narrow(values); s != nil {
			left = append(left, s)
		}
	}
	if slices.Equal(left, m.GetSyscalls()) {
		return m
	}
	return &Manifest{
		Name: m.GetName(), Version: m.GetVersion(), Description: m.GetDescription(),
		Syscalls:     left,
		Capabilities: m.GetCapabilities(), Uses: m.GetUses(), Settings: m.GetSettings(), OnFailure: m.GetOnFailure(),
		AnyContainer: m.GetAnyContainer(), Reasons: m.GetReasons(), CallerCapabilities: m.GetCallerCapabilities(),
	}
}

// narrow is the syscall without the matches that the settings leave switched off: the same one if none is; nil if it is
// never notified.
func (s *Syscall) narrow(values map[string]json.RawMessage) *Syscall {
	on := func(key string) bool { return !isZero(values[key]) }
	if len(s.GetIfSettings()) > 0 && !slices.ContainsFunc(s.GetIfSettings(), on) {
		return nil
	}
	off := func(m *Match) bool {
		return slices.ContainsFunc(m.GetSettings(), func(c *SettingCondition) bool { return !c.holds(values[c.GetKey()]) })
	}
	if !slices.ContainsFunc(s.GetWhen(), off) {
		return s
	}
	narrow := proto.Clone(s).(*Syscall)
	if narrow.When = slices.DeleteFunc(narrow.When, off); len(narrow.When) == 0 {
		return nil
	}
	return narrow
}

func (c *SettingCondition) holds(value json.RawMessage) bool {
	if c.GetPattern() == "" {
		return !isZero(value)
	}
	var list []string
	whole, err := regexp.Compile(`^(?:` + c.GetPattern() + `)$`)
	return err == nil && json.Unmarshal(value, &list) == nil && slices.ContainsFunc(list, whole.MatchString)
}

// zeros are the zero values of the settings' types.
var zeros = []string{"", "null", "false", "0", "-0", `""`, "[]", "{}"}

func isZero(value json.RawMessage) bool {
	var text bytes.Buffer
	json.Compact(&text, value) // fails for no value, which leaves no text
	return slices.Contains(zeros, text.String())
}
