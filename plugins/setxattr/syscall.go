package main

import (
	"slices"

	"github.com/intercede/intercede/sdk"
)

// operation is what a system call does with an attribute.
type operation int

const (
	set operation = iota
	get
	remove
)

// naming is how a system call names its file, which comes first in its arguments.
type naming int

const (
	byPath       naming = iota // path; a symbolic link at its end is followed
	byLink                     // path; a symbolic link at its end is the file
	byDescriptor               // fd
	at                         // dirfd, path, at_flags
)

// form is a system call that the plugin takes.
type form struct {
	syscall string
	operation
	naming
}

// forms are all of them. Those behind the first four are for reading and removing.
var forms = []form{
	{"setxattr", set, byPath},
	{"lsetxattr", set, byLink},
	{"fsetxattr", set, byDescriptor},
	{"setxattrat", set, at},
	{"getxattr", get, byPath},
	{"lgetxattr", get, byLink},
	{"fgetxattr", get, byDescriptor},
	{"getxattrat", get, at},
	{"removexattr", remove, byPath},
	{"lremovexattr", remove, byLink},
	{"fremovexattr", remove, byDescriptor},
	{"removexattrat", remove, at},
}

func formOf(syscall string) form {
	return forms[slices.IndexFunc(forms, func(f form) bool { return f.syscall == syscall })]
}

// pathArg is the argument with the path, if there is one.
func (f form) pathArg() int {
	if f.naming == at {
		return 1
	}
	return 0
}

// nameArg is the argument with the attribute's name; those behind it say the value.
func (f form) nameArg() int {
	if f.naming == at {
		return 3
	}
	return 1
}

// argsSize is the size of struct xattr_args in bytes (include/uapi/linux/xattr.h).
const argsSize = 16

func (f form) manifest() sdk.Syscall {
	s := sdk.Syscall{
		Name:      f.syscall,
		Arguments: append(f.fileArguments(), f.valueArguments()...),
		Reads:     []sdk.Read{sdk.ReadString(f.nameArg(), maxName+1)},
		Captures:  []sdk.Capture{sdk.CaptureCredentials, sdk.CapturePlace},
	}
	if f.naming == byDescriptor || f.naming == at {
		s.Captures = append(s.Captures, sdk.CaptureDescriptor(0))
	}
	if f.naming != byDescriptor {
		s.Reads = append(s.Reads, sdk.ReadPath(f.pathArg()))
	}
	if f.operation != set {
		s.If = []string{readSetting}
	}
	if s.Repeat = sdk.RepeatCheck; f.operation == get {
		s.Repeat = sdk.RepeatSafe
	}
	switch {
	case f.operation == remove:
	case f.naming == at:
		s.Reads = append(s.Reads, sdk.ReadStruct(4, argsSize))
	case f.operation == set:
		s.When = []sdk.Match{{{Arg: 3, Mask: ^uint64(0), Value: 1}}} // the size
		s.Reads = append(s.Reads, sdk.ReadStruct(2, 1))
	}
	return s
}

func (f form) fileArguments() []sdk.Argument {
	switch f.naming {
	case byDescriptor:
		return []sdk.Argument{{Name: "fd", Format: sdk.FD}}
	case at:
		return []sdk.Argument{{Name: "dirfd", Format: sdk.FD}, {Name: "path"}, {Name: "at_flags"}}
	default:
		return []sdk.Argument{{Name: "path"}}
	}
}

func (f form) valueArguments() []sdk.Argument {
	arguments := []sdk.Argument{{Name: "name"}}
	switch {
	case f.operation == remove:
	case f.naming == at:
		arguments = append(arguments, sdk.Argument{Name: "args"}, sdk.Argument{Name: "usize", Format: sdk.Size})
	default:
		arguments = append(arguments, sdk.Argument{Name: "value"}, sdk.Argument{Name: "size", Format: sdk.Size})
		if f.operation == set {
			arguments = append(arguments, sdk.Argument{Name: "flags"})
		}
	}
	return arguments
}
