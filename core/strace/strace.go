// Package strace shows one intercepted call on a line, as strace(1) does.
package strace

import (
	"cmp"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// Call is an intercepted call. Its fields may be whatever a hostile container, or plugin, made them.
type Call struct {
	TID     uint32
	Comm    string // the thread's name (proc_pid_comm(5)); empty: not shown
	Arch    uint32 // AUDIT_ARCH_*
	Syscall string // by the kernel's name
	Args    [6]uint64
	// Declared names the arguments of a system call that this package does not know, from the first.
	Declared []Argument
	Memory   []Memory
	Plugin   string     // that decided; empty: none did
	Kind     audit.Kind // how the call ended; empty: it has not
	Value    int64      // of a Return or AddFD
	Errno    unix.Errno // of an Errno
	Reason   string     // why, for people; empty: not shown
	Duration time.Duration
}

// Argument is the name of an argument, and how its register is shown.
type Argument struct {
	Name   string
	Format wire.Argument_Format
}

// Memory is what was copied of the caller's memory where the register Args[Arg] points to.
type Memory struct {
	Arg    int
	String bool // a string, which Data has without its NUL
	Data   []byte
	Errno  unix.Errno // why nothing was copied; 0: Data was
}

// Of is the call of a record.
func Of(r audit.Record) Call {
	reason := r.Outcome.Reason
	c := Call{
		TID: r.Notification.TID, Arch: r.Notification.Arch, Syscall: r.Syscall, Args: r.Notification.Args,
		Plugin: cmp.Or(r.Outcome.Plugin, reason.Plugin), Kind: r.Outcome.Kind, Value: r.Outcome.Value, Errno: r.Outcome.Errno,
		Reason: reason.Code, Duration: r.Duration,
	}
	if reason.Text != "" {
		c.Reason += ": " + reason.Text
	}
	if r.Caller != nil {
		c.Comm = r.Caller.Comm
	}
	if r.Outcome.Err != nil {
		c.Reason = r.Outcome.Err.Error()
	}
	for _, a := range r.Declared.GetArguments() {
		c.Declared = append(c.Declared, Argument{a.GetName(), a.GetFormat()})
	}
	for i, read := range r.Declared.GetReads() {
		if i < len(r.Reads) {
			c.Memory = append(c.Memory, Memory{
				Arg: int(read.GetArg()), String: read.GetString_() != nil,
				Data: r.Reads[i].GetData(), Errno: unix.Errno(r.Reads[i].GetErrno()),
			})
		}
	}
	return c
}

// String shows the call on one line without a newline:
//
//	[pid 1234] mknodat(AT_FDCWD, "/dev/null", S_IFCHR|0666, makedev(1, 3)) = 0 [mknod] <0.000080>
//
// After the result stand the plugin that decided, with its reason, and the duration in seconds. The line has printable
// characters alone, whatever the caller's memory has.
func (c Call) String() string {
	var line strings.Builder
	fmt.Fprintf(&line, "[pid %d", c.TID)
	if c.Comm != "" {
		fmt.Fprintf(&line, "<%s>", escape(c.Comm, maxString))
	}
	if name := foreignArch(c.Arch); name != "" {
		line.WriteString(" " + name)
	}
	line.WriteString("] " + c.Invocation())
	if c.Kind == "" {
		return line.String() + " <unfinished ...>"
	}
	line.WriteString(" = " + c.result())
	if by := c.by(); by != "" {
		line.WriteString(" [" + by + "]")
	}
	fmt.Fprintf(&line, " <%.6f>", c.Duration.Seconds())
	return line.String()
}

// Invocation shows the call alone: mknodat(AT_FDCWD, "/dev/null", S_IFCHR|0666, makedev(1, 3)).
func (c Call) Invocation() string {
	return escape(c.Syscall, maxString) + "(" + strings.Join(c.arguments(), ", ") + ")"
}

// arguments shows the arguments: as strace does, or else by what was declared of them, or else as registers.
func (c Call) arguments() []string {
	if show, ok := known[c.Syscall]; ok {
		return show(c)
	}
	if len(c.Declared) == 0 {
		return show(pointer, pointer, pointer, pointer, pointer, pointer)(c)
	}
	var shown []string
	for i, a := range c.Declared[:min(len(c.Declared), len(c.Args))] {
		shown = append(shown, escape(a.Name, maxString)+"="+c.declared(i, a.Format))
	}
	return shown
}

func (c Call) declared(i int, format wire.Argument_Format) string {
	if _, ok := c.memory(i); ok {
		return str(c, i)
	}
	switch format {
	case wire.Argument_FORMAT_INT:
		return decimal(c, i)
	case wire.Argument_FORMAT_UINT:
		return size(c, i)
	case wire.Argument_FORMAT_FD:
		return dirfd(c, i)
	case wire.Argument_FORMAT_MODE:
		return mode(c, i)
	case wire.Argument_FORMAT_DEV:
		return device(c, i)
	default:
		return hex(c.Args[i])
	}
}

func (c Call) result() string {
	switch c.Kind {
	case audit.Return, audit.AddFD:
		return fmt.Sprint(c.Value)
	case audit.Errno:
		return "-1 " + errno(c.Errno)
	default: // the caller's result is not known
		return "? (" + escape(string(c.Kind), maxString) + ")"
	}
}

// by is who decided, and why.
func (c Call) by() string {
	plugin, reason := escape(c.Plugin, maxString), text(c.Reason, maxReason)
	if plugin != "" && reason != "" {
		return plugin + ": " + reason
	}
	return plugin + reason
}

// errno shows an errno as strace does. A plugin may have chosen it, so it may be a number without a name.
func errno(e unix.Errno) string {
	name := unix.ErrnoName(e)
	if name == "" {
		return fmt.Sprintf("(errno %d)", int(e))
	}
	message := e.Error()
	return fmt.Sprintf("%s (%s)", name, strings.ToUpper(message[:1])+message[1:])
}

// foreignArch is the name of an architecture that is not this program's; empty: it is this one.
func foreignArch(arch uint32) string {
	switch {
	case arch == unix.AUDIT_ARCH_X86_64 && runtime.GOARCH == "amd64", arch == unix.AUDIT_ARCH_AARCH64 && runtime.GOARCH == "arm64":
		return ""
	case arch == unix.AUDIT_ARCH_X86_64:
		return "x86_64"
	case arch == unix.AUDIT_ARCH_AARCH64:
		return "aarch64"
	case arch == unix.AUDIT_ARCH_I386:
		return "i386"
	case arch == unix.AUDIT_ARCH_ARM:
		return "arm"
	default:
		return fmt.Sprintf("arch %#x", arch)
	}
}
