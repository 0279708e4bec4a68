package wire_test

import (
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/wire"
)

func TestLint(t *testing.T) {
	setting := func(s *wire.Setting) *wire.Manifest {
		m := manifest(nil)
		if s.Key = "key"; s.DefaultJson == "" {
			s.DefaultJson = map[wire.Setting_Type]string{
				wire.Setting_TYPE_BOOL: "false", wire.Setting_TYPE_INT: "1", wire.Setting_TYPE_STRING: `"a"`,
			}[s.Type]
		}
		m.Settings = []*wire.Setting{s}
		return m
	}
	call := func(s *wire.Syscall) *wire.Manifest {
		m := manifest(nil)
		m.Syscalls = []*wire.Syscall{s}
		return m
	}
	capable := func(names ...string) *wire.Manifest {
		m := call(&wire.Syscall{Name: "mknod", Captures: []*wire.Declared{{Part: wire.Part_PART_MOUNT_NAMESPACE}}})
		m.Capabilities = names
		return m
	}
	described := manifest(nil)
	described.Description = "two\nlines"
	var bool, int, text = wire.Setting_TYPE_BOOL, wire.Setting_TYPE_INT, wire.Setting_TYPE_STRING
	for name, test := range map[string]struct {
		manifest *wire.Manifest
		want     string // empty: nothing is wrong
	}{
		"capability": {capable("CAP_SYS_ADMIM"), `capability "CAP_SYS_ADMIM": there is none of that name`},
		"place": {
			capable("CAP_SYS_ADMIN", "CAP_SETUID"), `"mknod": the place is captured to act there, which needs CAP_SYS_CHROOT, CAP_SETGID`,
		},
		"place, can":  {capable("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_CHROOT"), ""},
		"description": {described, `description "two\nlines": want one line`},
		"help":        {setting(&wire.Setting{Type: bool, Help: "a\x1b[2J"}), "help"},
		"example": {
			setting(&wire.Setting{Type: text, Pattern: "[a-z]", Example: "ab"}), `setting key: the example: "ab": does not match [a-z]`,
		},
		"example that fits": {setting(&wire.Setting{Type: text, Pattern: "[a-z]", Example: "b"}), ""},
		"pattern":           {setting(&wire.Setting{Type: bool, Pattern: "true"}), "setting key: a pattern and an example are for strings"},
		"bad pattern":       {setting(&wire.Setting{Type: text, Pattern: "("}), "pattern of the setting"},
		"min of a string":   {setting(&wire.Setting{Type: text, MinBound: &wire.Setting_Min{Min: 1}}), "setting key: min and max are for whole numbers"},
		"min above max":     {setting(&wire.Setting{Type: int, MinBound: &wire.Setting_Min{Min: 1}, MaxBound: &wire.Setting_Max{Max: 0}}), "min 1 is above max 0"},
		"length is pointer": {call(&wire.Syscall{Name: "write", Reads: []*wire.Read{
			{Arg: 1, Kind: &wire.Read_Bytes{Bytes: &wire.BytesRead{LengthArg: 1, Max: 10}}}}}), "argument 1 is both a pointer and the length"},
		"multiplexed":            {call(&wire.Syscall{Name: "connect"}), `"connect": i386 programs reach it through socketcall(2) too`},
		"multiplexed, refused":   {call(&wire.Syscall{Name: "connect", Compat: wire.Compat_COMPAT_REFUSE}), ""},
		"multiplexed, continues": {call(&wire.Syscall{Name: "shmat", Compat: wire.Compat_COMPAT_CONTINUE}), ""},
		"another's compat":       {call(&wire.Syscall{Name: "mknod", Compat: wire.Compat_COMPAT_REFUSE}), ""},
		"unknown compat":         {call(&wire.Syscall{Name: "mknod", Compat: 3}), `"mknod": compat 3: want take, refuse or continue`},
		"exit_group":             {call(&wire.Syscall{Name: "exit_group"}), `"exit_group": it cannot be intercepted: it does not return`},
		"execve":                 {call(&wire.Syscall{Name: "execve"}), "it cannot be intercepted"},
		"rt_sigreturn":           {call(&wire.Syscall{Name: "rt_sigreturn"}), "it cannot be intercepted"},
	} {
		t.Run(name, func(t *testing.T) {
			err := wire.CheckManifest(test.manifest)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}
