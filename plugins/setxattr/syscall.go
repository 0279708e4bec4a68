package setxattr

import (
	"math"
	"slices"

	"github.com/intercede/intercede/sdk"
)

// operation is what a system call does with an attribute.
type operation int

const (
	set operation = iota
	get
	list
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

// forms are all of them. Those after the first four are for reading, listing and removing.
var forms = []form{
	{"setxattr", set, byPath},
	{"lsetxattr", set, byLink},
	{"fsetxattr", set, byDescriptor},
	{"setxattrat", set, at},
	{"getxattr", get, byPath},
	{"lgetxattr", get, byLink},
	{"fgetxattr", get, byDescriptor},
	{"getxattrat", get, at},
	{"listxattr", list, byPath},
	{"llistxattr", list, byLink},
	{"flistxattr", list, byDescriptor},
	{"listxattrat", list, at},
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

// nameArg is the argument with the attribute's name; those behind it say the value. Of a call that lists it is the
// buffer for the names.
func (f form) nameArg() int {
	if f.naming == at {
		return 3
	}
	return 1
}

// argsSize is the size of struct xattr_args in bytes (include/uapi/linux/xattr.h).
const argsSize = 16

// sizes are those of values for which a call is notified: a value of another size never leaves the kernel, but for
// those that share the upper bits with a size that is allowed. The size is an argument. Matches of 32 bits are those
// that a profile for a runtime may have beside others.
var sizes = []sdk.Match{
	{{Setting: attributesSetting, Pattern: oneCharacter}, {Arg: 3, Mask: ^uint64(0), Value: 1}},
	{{Setting: attributesSetting, Pattern: otherSizes}, {Arg: 3, Mask: math.MaxUint32 &^ (2*maxValue - 1)}},
}

func (f form) manifest() sdk.Syscall {
	s := sdk.Syscall{
		Name:      f.syscall,
		Arguments: append(f.fileArguments(), f.valueArguments()...),
		Captures:  []sdk.Capture{sdk.CaptureCredentials, sdk.CapturePlace},
	}
	if f.operation != list {
		s.Reads = append(s.Reads, sdk.ReadString(f.nameArg(), maxName+1))
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
	if s.Repeat = sdk.RepeatCheck; f.operation == get || f.operation == list {
		s.Repeat = sdk.RepeatSafe
	}
	switch {
	case f.operation == remove || f.operation == list:
	case f.naming == at:
		s.Reads = append(s.Reads, sdk.ReadStruct(4, argsSize))
	case f.operation == set:
		s.When = sizes
		s.Reads = append(s.Reads, sdk.ReadBytes(2, 3, maxValue))
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
	if f.operation == list {
		return []sdk.Argument{{Name: "list"}, {Name: "size", Format: sdk.Size}}
	}
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
