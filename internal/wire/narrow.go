package wire

import (
	"bytes"
	"encoding/json"
	"slices"
)

// Narrow is the manifest without the syscalls that the settings leave switched off: the same one if none is, else one
// that shares all else with it. Settings are a JSON object that has every key of the manifest, each with a value that
// CheckSetting accepts.
func Narrow(m *Manifest, settings string) *Manifest {
	var values map[string]json.RawMessage
	json.Unmarshal([]byte(settings), &values) // what is no object switches nothing on
	off := func(s *Syscall) bool {
		on := func(key string) bool { return !isZero(values[key]) }
		return len(s.GetIfSettings()) > 0 && !slices.ContainsFunc(s.GetIfSettings(), on)
	}
	if !slices.ContainsFunc(m.GetSyscalls(), off) {
		return m
	}
	return &Manifest{
		Name: m.GetName(), Version: m.GetVersion(), Description: m.GetDescription(),
		Syscalls:     slices.DeleteFunc(slices.Clone(m.GetSyscalls()), off),
		Capabilities: m.GetCapabilities(), Uses: m.GetUses(), Settings: m.GetSettings(), OnFailure: m.GetOnFailure(),
		AnyContainer: m.GetAnyContainer(),
	}
}

// zeros are the zero values of the settings' types.
var zeros = []string{"", "null", "false", "0", "-0", `""`, "[]", "{}"}

func isZero(value json.RawMessage) bool {
	var text bytes.Buffer
	json.Compact(&text, value) // fails for no value, which leaves no text
	return slices.Contains(zeros, text.String())
}
