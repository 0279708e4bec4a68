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
