package proto

import (
	"bytes"
	"encoding/json"
	"slices"

	"google.golang.org/protobuf/proto"
)

// Narrow is the manifest without the syscalls that the settings leave switched off. Settings are a JSON object that has
// every key of the manifest, each with a value that CheckSetting accepts.
func Narrow(m *Manifest, settings string) *Manifest {
	var values map[string]json.RawMessage
	json.Unmarshal([]byte(settings), &values) // what is no object switches nothing on
	narrowed := proto.CloneOf(m)
	narrowed.Syscalls = slices.DeleteFunc(narrowed.Syscalls, func(s *Syscall) bool {
		return s.GetIfSetting() != "" && isZero(values[s.GetIfSetting()])
	})
	return narrowed
}

// zeros are the zero values of the settings' types.
var zeros = []string{"", "null", "false", "0", "-0", `""`, "[]", "{}"}

func isZero(value json.RawMessage) bool {
	var text bytes.Buffer
	json.Compact(&text, value) // fails for no value, which leaves no text
	return slices.Contains(zeros, text.String())
}
