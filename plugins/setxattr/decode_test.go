package setxattr

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// xattrArgs is struct xattr_args.
func xattrArgs(value uint64, size, flags uint32) []byte {
	b := binary.LittleEndian.AppendUint64(nil, value)
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, size), flags)
}

const opaqueName = "trusted.overlay.opaque"

// TestDecisions need no caller: what is not the plugin's is continued before it looks at one; the rest finds that it is
// gone.
func TestDecisions(t *testing.T) {
	s := sdktest.Serve(t, handler{}).Attach(sdk.Container{ID: "c"}, map[string]any{"read": true})
	value, rest := uint64(0x1000), map[uint64][]byte{0x1000: []byte("y"), 0x2010: make([]byte, 4080), 0x3010: append(make([]byte, 7), 1)}
	at := func(path any, name any, args any, registers ...uint64) sdktest.Call {
		c := sdktest.Call{Syscall: "setxattrat", Reads: map[int]any{1: path, 3: opaqueName, 4: args}, Memory: rest}
		copy(c.Args[:], registers)
		return c
	}
	sound := xattrArgs(value, 1, 0)
	for what, test := range map[string]struct {
		call sdktest.Call
		mine bool
	}{
		"listed":           {sdktest.Call{Syscall: "setxattr", Reads: map[int]any{0: "/x", 1: opaqueName, 2: "y"}}, true},
		"value not listed": {sdktest.Call{Syscall: "setxattr", Reads: map[int]any{0: "/x", 1: opaqueName, 2: "z"}}, false},
		"name not listed":  {sdktest.Call{Syscall: "lsetxattr", Reads: map[int]any{0: "/x", 1: "trusted.a", 2: "y"}}, false},
		"no name":          {sdktest.Call{Syscall: "setxattr", Reads: map[int]any{0: "/x", 1: "", 2: "y"}}, false},
		"long name":        {sdktest.Call{Syscall: "setxattr", Reads: map[int]any{0: "/x", 1: unix.ENAMETOOLONG, 2: "y"}}, false},
		"bad name":         {sdktest.Call{Syscall: "setxattr", Reads: map[int]any{0: "/x", 1: unix.EFAULT, 2: "y"}}, false},
		"bad value":        {sdktest.Call{Syscall: "setxattr", Reads: map[int]any{0: "/x", 1: opaqueName, 2: unix.EFAULT}}, false},
		"bad path":         {sdktest.Call{Syscall: "setxattr", Reads: map[int]any{0: unix.EFAULT, 1: opaqueName, 2: "y"}}, false},
		"empty path":       {sdktest.Call{Syscall: "setxattr", Reads: map[int]any{0: "", 1: opaqueName, 2: "y"}}, false},
		"flags":            {sdktest.Call{Syscall: "setxattr", Args: [6]uint64{4: 3}, Reads: map[int]any{0: "/x", 1: opaqueName, 2: "y"}}, true},
		"unknown flags": {sdktest.Call{Syscall: "setxattr", Args: [6]uint64{4: 4},
			Reads: map[int]any{0: "/x", 1: opaqueName, 2: "y"}}, false},
		"list":         {sdktest.Call{Syscall: "listxattr", Reads: map[int]any{0: "/x"}}, true},
		"list no path": {sdktest.Call{Syscall: "llistxattr", Reads: map[int]any{0: ""}}, false},
		"garbage above": {sdktest.Call{Syscall: "setxattr", Args: [6]uint64{4: 0xdead << 32},
			Reads: map[int]any{0: "/x", 1: opaqueName, 2: "y"}}, true},
		"descriptor": {sdktest.Call{Syscall: "fsetxattr", Args: [6]uint64{0xdead00000000},
			Reads: map[int]any{1: opaqueName, 2: "y"}}, true},
		"no descriptor":     {sdktest.Call{Syscall: "fsetxattr", Args: [6]uint64{0xffffffff}, Reads: map[int]any{1: opaqueName, 2: "y"}}, false},
		"get":               {sdktest.Call{Syscall: "getxattr", Reads: map[int]any{0: "/x", 1: opaqueName}}, true},
		"get not listed":    {sdktest.Call{Syscall: "fgetxattr", Reads: map[int]any{1: "user.a"}}, false},
		"remove":            {sdktest.Call{Syscall: "lremovexattr", Reads: map[int]any{0: "/x", 1: opaqueName}}, true},
		"remove not listed": {sdktest.Call{Syscall: "fremovexattr", Reads: map[int]any{1: "user.a"}}, false},
		"remove at":         {sdktest.Call{Syscall: "removexattrat", Reads: map[int]any{1: "/x", 3: opaqueName}}, true},
		"remove at nothing": {sdktest.Call{Syscall: "removexattrat", Args: [6]uint64{0xffffff9c, 0, unix.AT_EMPTY_PATH},
			Reads: map[int]any{1: "", 3: opaqueName}}, false},

		"at":                     {at("/x", opaqueName, sound, 0, 1, 0, 0, 0x2000, 16), true},
		"at, larger":             {at("/x", opaqueName, sound, 0, 1, 0, 0, 0x2000, 4096), true},
		"at, too large":          {at("/x", opaqueName, sound, 0, 1, 0, 0, 0x2000, 4097), false},
		"at, huge":               {at("/x", opaqueName, sound, 0, 1, 0, 0, 0x2000, 1<<63), false},
		"at, too small":          {at("/x", opaqueName, sound, 0, 1, 0, 0, 0x2000, 15), false},
		"at, something behind":   {at("/x", opaqueName, sound, 0, 1, 0, 0, 0x3000, 24), false},
		"at, unreadable behind":  {at("/x", opaqueName, sound, 0, 1, 0, 0, 0x4000, 24), false},
		"at, bad args":           {at("/x", opaqueName, unix.EFAULT, 0, 1, 0, 0, 0x2000, 16), false},
		"at, flags":              {at("/x", opaqueName, xattrArgs(value, 1, 2), 0, 1, 0, 0, 0x2000, 16), true},
		"at, unknown flags":      {at("/x", opaqueName, xattrArgs(value, 1, 1<<31), 0, 1, 0, 0, 0x2000, 16), false},
		"at, size":               {at("/x", opaqueName, xattrArgs(value, 2, 0), 0, 1, 0, 0, 0x2000, 16), false},
		"at, no size":            {at("/x", opaqueName, xattrArgs(value, 0, 0), 0, 1, 0, 0, 0x2000, 16), false},
		"at, bad value":          {at("/x", opaqueName, xattrArgs(1, 1, 0), 0, 1, 0, 0, 0x2000, 16), false},
		"at, at_flags":           {at("/x", opaqueName, sound, 0, 1, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH, 0, 0x2000, 16), true},
		"at, unknown at_flags":   {at("/x", opaqueName, sound, 0, 1, unix.AT_REMOVEDIR, 0, 0x2000, 16), false},
		"at, garbage above":      {at("/x", opaqueName, sound, 0, 1, 0xdead<<32, 0, 0x2000, 16), true},
		"at, empty path":         {at("", opaqueName, sound, 0, 1, 0, 0, 0x2000, 16), false},
		"at, empty path allowed": {at("", opaqueName, sound, 0, 1, unix.AT_EMPTY_PATH, 0, 0x2000, 16), true},
		"at, NULL":               {at(unix.EFAULT, opaqueName, sound, 0, 0, unix.AT_EMPTY_PATH, 0, 0x2000, 16), true},
		"at, NULL not allowed":   {at(unix.EFAULT, opaqueName, sound, 0, 0, 0, 0, 0x2000, 16), false},
		"at, bad path":           {at(unix.EFAULT, opaqueName, sound, 0, 1, unix.AT_EMPTY_PATH, 0, 0x2000, 16), false},
	} {
		t.Run(what, func(t *testing.T) {
			test.call.TID = 1 << 30
			if _, hasValue := test.call.Reads[2]; hasValue {
				test.call.Args[3] = 1
			}
			missing := strings.HasSuffix(test.call.Syscall, "at") && !kernelHasXattrat()
			want := map[bool]string{true: "gone", false: "next"}[test.mine && !missing]
			if got := s.Handle(t.Context(), test.call).String(); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// FuzzArguments has setxattrat with any arguments: the plugin takes it up only if all of them are sound.
func FuzzArguments(f *testing.F) {
	f.Add(opaqueName, "/x", uint32(0), uint64(0x1000), uint32(1), uint32(0), uint64(16), []byte("y"))
	f.Add(opaqueName, "", uint32(unix.AT_EMPTY_PATH), uint64(0x1000), uint32(1), uint32(2), uint64(24), []byte("x\x00"))
	f.Add("trusted.a", "x", uint32(1), uint64(0), uint32(70000), uint32(9), uint64(1<<40), []byte{})
	f.Fuzz(func(t *testing.T, attribute, path string, atFlags uint32, value uint64, size, flags uint32, usize uint64, memory []byte) {
		if len(attribute) > maxName || len(path) >= sdk.PathMax {
			return // the broker makes a fault of it
		}
		s := sdktest.Serve(t, handler{}).Attach(sdk.Container{ID: "c"}, nil)
		got := s.Handle(t.Context(), sdktest.Call{
			Syscall: "setxattrat", Args: [6]uint64{0, 1, uint64(atFlags), 1, 0x2000, usize}, TID: 1 << 30,
			Reads:  map[int]any{1: path, 3: attribute, 4: xattrArgs(value, size, flags)},
			Memory: map[uint64][]byte{0x1000: memory, 0x2000 + argsSize: make([]byte, 100)},
		})
		sound := attribute == opaqueName && value >= 0x1000 && value-0x1000 < uint64(len(memory)) && size == 1 && flags <= 3 &&
			usize >= argsSize && usize <= argsSize+100 && (path != "" || atFlags&unix.AT_EMPTY_PATH != 0)
		if got.Kind != sdktest.Next && (got.Kind != sdktest.Gone || !sound) {
			t.Errorf("got %v", got)
		}
	})
}
