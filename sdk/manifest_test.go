package sdk

import (
	"testing"

	"github.com/intercede/intercede/internal/wire"
)

// TestEnumerations compares what is written as numbers with plugin.proto.
func TestEnumerations(t *testing.T) {
	for format, want := range map[Format]wire.Argument_Format{
		Hex: wire.Argument_FORMAT_HEX, Decimal: wire.Argument_FORMAT_INT, Size: wire.Argument_FORMAT_UINT,
		FD: wire.Argument_FORMAT_FD, Mode: wire.Argument_FORMAT_MODE, Dev: wire.Argument_FORMAT_DEV,
	} {
		if wire.Argument_Format(format) != want {
			t.Errorf("format %d is %v, want %v", format, wire.Argument_Format(format), want)
		}
	}
	for setting, want := range map[SettingType]wire.Setting_Type{
		Bool: wire.Setting_TYPE_BOOL, Int: wire.Setting_TYPE_INT, String: wire.Setting_TYPE_STRING,
		StringList: wire.Setting_TYPE_STRING_LIST, StringMap: wire.Setting_TYPE_STRING_MAP,
	} {
		if wire.Setting_Type(setting) != want {
			t.Errorf("setting type %d is %v, want %v", setting, wire.Setting_Type(setting), want)
		}
	}
}

// TestNeedsOfManifest has the SDK say what the broker must have, where the manifest uses it.
func TestNeedsOfManifest(t *testing.T) {
	m := Manifest{Name: "trial", Version: "1", Syscalls: []Syscall{{Name: "getppid"}}, OnFailure: FailContinue()}
	plain, err := m.wire()
	if err != nil || len(plain.GetNeeds()) != 0 || len(plain.GetProtocols()) != 1 {
		t.Errorf("needs %v, speaks %v, %v", plain.GetNeeds(), plain.GetProtocols(), err)
	}
	m.Reasons, m.Syscalls[0].Compat = []Reason{{Code: "why", Help: "Because."}}, CompatRefuse
	w, err := m.wire()
	if needs := w.GetNeeds(); err != nil || len(needs) != 2 || needs[0].GetName() != "compat" || needs[1].GetName() != "reasons" {
		t.Errorf("needs %v, %v", needs, err)
	}
}

// TestLargeNumbers has numbers that would be others in 32 bits.
func TestLargeNumbers(t *testing.T) {
	for name, s := range map[string]Syscall{
		"size":            {Name: "getppid", Reads: []Read{ReadStruct(0, 1<<32+1)}},
		"negative size":   {Name: "getppid", Reads: []Read{ReadString(0, -1)}},
		"bytes":           {Name: "getppid", Reads: []Read{ReadBytes(0, 1, 1<<32+1)}},
		"pointer":         {Name: "getppid", Reads: []Read{ReadStruct(1<<32, 1)}},
		"length argument": {Name: "getppid", Reads: []Read{ReadBytes(0, 1<<32+1, 1)}},
		"condition":       {Name: "getppid", When: []Match{{{Arg: 1 << 32, Mask: 1}}}},
		"descriptor":      {Name: "getppid", Captures: []Capture{CaptureDescriptor(1 << 32)}},
	} {
		m := Manifest{Name: "trial", Version: "1", Syscalls: []Syscall{s}, OnFailure: FailContinue()}
		if w, err := m.wire(); err == nil {
			t.Errorf("%s: it became %v", name, w.GetSyscalls())
		}
	}
}
