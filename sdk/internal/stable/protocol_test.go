package stable

import (
	"fmt"
	"strings"

	"github.com/intercede/intercede/internal/wire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// protocol is a line for each thing that both ends of plugin.proto and its handshake have to agree on. Names count: a
// manifest is printed as JSON.
func protocol() (lines []string) {
	file := wire.File_plugin_proto
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	add("package %s", file.Package())
	add("handshake: version %d, service %s", wire.ProtocolVersion, wire.PluginName)
	add("handshake: %s=%s", wire.Handshake.MagicCookieKey, wire.Handshake.MagicCookieValue)
	add("handshake: binary %sNAME, environment %s %s, folder %s", wire.BinaryPrefix, wire.LifelineEnv, wire.LanesEnv, wire.OwnDir)
	for i := range file.Services().Len() {
		methods := file.Services().Get(i).Methods()
		for j := range methods.Len() {
			m := methods.Get(j)
			add("rpc %s(%s%s) returns (%s%s)", m.FullName(), streams(m.IsStreamingClient()), m.Input().Name(),
				streams(m.IsStreamingServer()), m.Output().Name())
		}
	}
	for i := range file.Enums().Len() {
		lines = append(lines, enum(file.Enums().Get(i))...)
	}
	for i := range file.Messages().Len() {
		lines = append(lines, message(file.Messages().Get(i))...)
	}
	return lines
}

func streams(yes bool) string {
	if yes {
		return "stream "
	}
	return ""
}

func enum(e protoreflect.EnumDescriptor) (lines []string) {
	for i := range e.Values().Len() {
		v := e.Values().Get(i)
		lines = append(lines, fmt.Sprintf("enum %s: %s = %d", name(e), v.Name(), v.Number()))
	}
	return append(lines, reserved(name(e), e.ReservedNames(), e.ReservedRanges().Has, e.ReservedRanges().Len())...)
}

func message(m protoreflect.MessageDescriptor) (lines []string) {
	lines = append(lines, "message "+name(m))
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		lines = append(lines, fmt.Sprintf("message %s: %s%s %s = %d", name(m), label(f), kind(f), f.Name(), f.Number()))
	}
	for i := range m.Enums().Len() {
		lines = append(lines, enum(m.Enums().Get(i))...)
	}
	return append(lines, reserved(name(m), m.ReservedNames(), m.ReservedRanges().Has, m.ReservedRanges().Len())...)
}

// maxReserved is above all reserved numbers.
const maxReserved = 1000

func reserved[N ~int32](of string, names protoreflect.Names, has func(N) bool, ranges int) (lines []string) {
	for i := range names.Len() {
		lines = append(lines, fmt.Sprintf("reserved in %s: %s", of, names.Get(i)))
	}
	for n := N(0); ranges > 0 && n < maxReserved; n++ {
		if has(n) {
			lines = append(lines, fmt.Sprintf("reserved in %s: %d", of, n))
		}
	}
	return lines
}

// label says how often a field is there.
func label(f protoreflect.FieldDescriptor) string {
	switch {
	case f.IsMap():
		return ""
	case f.IsList():
		return "repeated "
	case f.HasOptionalKeyword():
		return "optional "
	case f.ContainingOneof() != nil:
		return fmt.Sprintf("oneof %s ", f.ContainingOneof().Name())
	}
	return ""
}

func kind(f protoreflect.FieldDescriptor) string {
	switch {
	case f.IsMap():
		return fmt.Sprintf("map<%s, %s>", kind(f.MapKey()), kind(f.MapValue()))
	case f.Message() != nil:
		return name(f.Message())
	case f.Enum() != nil:
		return name(f.Enum())
	}
	return f.Kind().String()
}

// name is without the package.
func name(d protoreflect.Descriptor) string {
	return strings.TrimPrefix(string(d.FullName()), string(d.ParentFile().Package())+".")
}
