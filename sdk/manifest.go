package sdk

import (
	"encoding/json"
	"fmt"
	"math"
	"syscall"

	"github.com/intercede/intercede/internal/wire"
)

// PathMax is the largest length of a path in bytes, its NUL included (PATH_MAX, limits.h).
const PathMax = 4096

// Manifest declares, as data, what a plugin takes and needs. The broker reads it by running the binary with no
// privilege at all, and builds the seccomp filter, the sandbox of the process and the checks on its settings from it.
type Manifest struct {
	Name        string // [a-z][a-z0-9_]*; the binary is intercede-plugin-NAME
	Version     string // the plugin's own, one line: the log, `intercede status` and `plugin list` show it
	Description string // one line, without control characters
	Syscalls    []Syscall
	// Capabilities are those that the process needs, "CAP_MKNOD". It has them permitted and effective, and no others.
	Capabilities []string
	// Uses is what the process needs besides.
	Uses     Uses
	Settings []Setting
	// OnFailure is what the caller gets when the plugin fails: FailContinue or FailErrno. Continue is right only
	// where the kernel itself refuses the call to a caller without privilege. The operator can set another
	// (`on_failure`).
	OnFailure Verdict
	// NeverContinue keeps the operator from setting FailContinue: the kernel would do for some callers what the plugin
	// refuses.
	NeverContinue bool
	// AnyContainer says that the plugin serves containers without a user namespace of their own too, whose callers
	// may be root of the host. Calls of such containers are left to the kernel otherwise.
	AnyContainer bool
	// CallerCapabilities are those that the plugin asks of a caller (Request.Privileged), "CAP_MKNOD". `intercede why`
	// tells an operator which one is missing.
	CallerCapabilities []string
	// Reasons are the codes that Response.Because takes, 64 at most. A plugin's page lists them.
	Reasons []Reason
}

// Reason is a code for why a call was answered as it was.
type Reason struct {
	Code string // [a-z][a-z0-9_]*, at most 40 bytes
	Help string // one line: what it means, and what an operator can do
}

// Uses is what the plugin's process needs beyond the ordinary. All else is refused to it: it sees nothing of the host's
// files, processes, network and devices, and many system calls fail with EPERM, which the broker's log says, and
// `intercede status`.
//
// A manifest asks: the process has Capabilities and Uses only if the operator's config grants all of them.
// `intercede check` prints the line that does.
type Uses struct {
	// Syscalls are system calls, by the kernel's names: "mount", "execve", "quotactl", "keyctl", "finit_module",
	// "open_by_handle_at", "perf_event_open", "fanotify_init". The error for a name that needs no declaration lists
	// those that do. Of some the ordinary use needs none: clone and unshare without CLONE_NEWUSER,
	// setns with CLONE_NEWNS, socket with AF_UNIX, setfsuid and setfsgid but to 0, the ioctls of namespaces and those
	// that all descriptors have.
	Syscalls []string
	// Host are absolute paths of the host that the process sees, read-only, at the same paths: "/sys/fs/cgroup".
	// "/proc", with the host's processes, is for plugins without capabilities.
	Host []string
	// Devices are the device nodes that it may make and open, as podman's --device-cgroup-rule has them: "c *:* m".
	Devices []string
	// HostPIDs leaves the process in the host's pid namespace, since it names threads of containers or starts
	// programs in their pid namespaces, which setns(2) allows from an ancestor alone. Without it the process is the
	// first one of a pid namespace of its own: its ids mean nothing to others, and it inherits orphans.
	HostPIDs bool
}

// Syscall is one system call that the plugin takes, named as in the kernel's tables.
type Syscall struct {
	Name string
	// If are keys of settings that switch the syscall on: it never leaves the kernel while all of them have the zero
	// value of their types. None: always taken.
	If []string
	// When narrows what leaves the kernel: the call is notified when any Match holds, always when there is none.
	When []Match
	// Arguments name the arguments for logs, from the first.
	Arguments []Argument
	// Reads is the memory that the broker copies before the plugin sees the notification; Request.String and
	// Request.Bytes give it back.
	Reads []Read
	// Captures are what the broker captures of the caller before the plugin sees the notification. What is missing is
	// asked for when it is needed: declare what most calls need.
	Captures []Capture
	// Repeat says what becomes of a call whose plugin dies.
	Repeat Repeat
	// Compat says what callers of the machine's other ABIs get.
	Compat Compat
}

// Compat says what calls get that are not native: those of i386 and x32 programs on x86_64, and of 32-bit Arm
// programs on arm64, which have other numbers and other layouts of structs. On i386 sockets and System V IPC are also
// reached through socketcall(2) and ipc(2), which hide the arguments from the filter and from plugins: so of these
// calls (connect(2), sendmsg(2), semop(2), shmat(2) and their kin) a plugin can take the native ones alone, and has
// to say CompatRefuse or CompatContinue.
type Compat int32

const (
	// CompatTake gives the plugin these calls too: Request.Arch tells them apart.
	CompatTake Compat = iota
	// CompatRefuse has them fail with EPERM where When holds, and in any case those through socketcall and ipc.
	CompatRefuse
	// CompatContinue passes the plugin over, as Next does: nobody looks at these calls, if no other plugin does. It is
	// not for a plugin that restricts what callers may do.
	CompatContinue
)

// Capture declares something of the caller that the broker captures: CaptureCredentials, CapturePlace,
// CaptureMountinfo, CaptureTimeOffsets, or a CaptureDescriptor.
type Capture struct {
	wire []*wire.Declared
}

var (
	// CaptureCredentials is for Request.Privileged and Target.Credentials. They need no capability.
	CaptureCredentials = declare(wire.Part_PART_CREDENTIALS)
	// CapturePlace is for Target.Do, which needs CAP_SYS_ADMIN, CAP_SYS_CHROOT, CAP_SETUID and CAP_SETGID, and those
	// that it lends. A manifest without them is refused.
	CapturePlace = declare(wire.Part_PART_MOUNT_NAMESPACE, wire.Part_PART_ROOT, wire.Part_PART_WORKING_DIRECTORY)
	// CaptureMountinfo is for Target.OpenMountinfo.
	CaptureMountinfo = declare(wire.Part_PART_MOUNTINFO)
	// CaptureTimeOffsets is for Target.TimeOffsets.
	CaptureTimeOffsets = declare(wire.Part_PART_TIME_OFFSETS)
)

func declare(parts ...wire.Part) Capture {
	var c Capture
	for _, part := range parts {
		c.wire = append(c.wire, &wire.Declared{Part: part})
	}
	return c
}

// CaptureDescriptor is for Target.OpenDescriptor and Target.OpenStart of the descriptor that the argument is the number
// of. Numbers below 0, such as AT_FDCWD, are left out. They need no capability.
func CaptureDescriptor(arg int) Capture {
	return Capture{[]*wire.Declared{{Part: wire.Part_PART_DESCRIPTOR, Arg: number(arg)}}}
}

// Argument says how an argument is shown in logs. What a declared read copied is shown instead of its pointer.
type Argument struct {
	Name   string
	Format Format
}

// Format is how the value of an argument is shown.
type Format int32

const (
	Hex     Format = iota // flags and pointers too
	Decimal               // 32 bits, signed
	Size                  // 64 bits
	FD                    // AT_FDCWD or a number
	Mode                  // S_IFCHR|0666
	Dev                   // 1:3
)

// Match holds when all its conditions hold.
type Match []Condition

// Condition compares a register of the caller: args[Arg] & Mask == Value. Registers are 64 bits wide and may hold
// garbage above the width of the argument, so masks name the bits that count.
type Condition struct {
	Arg   int
	Mask  uint64
	Value uint64
	// Setting is the key of a setting that the condition is about instead of a register: it holds when the setting
	// has not the zero value of its type. With a Pattern, RE2, the setting is a list, and the condition holds when
	// that matches all of one of its elements. A match has a condition on a register too.
	Setting string
	Pattern string
}

// Read declares memory that an argument points to; made by ReadPath, ReadString, ReadBytes and ReadStruct.
type Read struct {
	wire *wire.Read
}

// number is n on the wire. What does not fit there is a number that no check of a manifest accepts.
func number(n int) uint32 {
	if n < 0 || int64(n) > math.MaxUint32 {
		return math.MaxUint32
	}
	return uint32(n)
}

// ReadPath is a path: a string of at most PathMax bytes.
func ReadPath(arg int) Read { return ReadString(arg, PathMax) }

// ReadString is a NUL-terminated string of at most max bytes, NUL included; longer is ENAMETOOLONG.
func ReadString(arg, max int) Read {
	return Read{&wire.Read{Arg: number(arg), Kind: &wire.Read_String_{String_: &wire.StringRead{Max: number(max)}}}}
}

// ReadBytes is as many bytes as the argument lengthArg says (a 64-bit size_t), at most max; more is E2BIG.
func ReadBytes(arg, lengthArg, max int) Read {
	return Read{&wire.Read{Arg: number(arg), Kind: &wire.Read_Bytes{Bytes: &wire.BytesRead{LengthArg: number(lengthArg), Max: number(max)}}}}
}

// ReadStruct is size bytes.
func ReadStruct(arg, size int) Read {
	return Read{&wire.Read{Arg: number(arg), Kind: &wire.Read_Struct{Struct: &wire.StructRead{Size: number(size)}}}}
}

// Verdict is an answer that needs no plugin. The zero Verdict is invalid.
type Verdict struct {
	wire *wire.Verdict
}

// FailContinue lets the kernel perform the call itself.
func FailContinue() Verdict {
	return Verdict{&wire.Verdict{Kind: &wire.Verdict_Continue{Continue: true}}}
}

// FailErrno makes the call fail with errno.
func FailErrno(errno syscall.Errno) Verdict {
	return Verdict{&wire.Verdict{Kind: &wire.Verdict_Errno{Errno: int32(errno)}}}
}

// SettingType is the type of a setting's value. The zero SettingType is invalid.
type SettingType int32

const (
	Bool SettingType = iota + 1
	Int
	String
	StringList
	StringMap
)

// Setting is a key of [plugins.NAME.config]; SettingsOf makes them of a struct. The broker checks type, pattern and
// range when it reads the config, so that `intercede check` needs no running plugin.
type Setting struct {
	Key     string
	Type    SettingType
	Default any    // bool, int, string, []string or map[string]string
	Help    string // one line, shown with Example where a value is refused: it names the forms that Pattern accepts
	Pattern string // of strings, RE2: a string, each element or each map value matches it whole; choices are "a|b|c"
	Example string // of strings: a value that Pattern accepts
	Min     *int64 // Int
	Max     *int64 // Int

	fault error // of the struct that it was made of
}

// wire turns the manifest into its wire form and checks it; the error names every fault.
func (m Manifest) wire() (*wire.Manifest, error) {
	w := &wire.Manifest{
		Name:         m.Name,
		Version:      m.Version,
		Description:  m.Description,
		Capabilities: m.Capabilities,
		Uses:         m.Uses.wire(),
		OnFailure:    m.OnFailure.wire,
		AnyContainer: m.AnyContainer, CallerCapabilities: m.CallerCapabilities, NeverContinue: m.NeverContinue,
	}
	for _, s := range m.Syscalls {
		w.Syscalls = append(w.Syscalls, s.wire())
	}
	for _, r := range m.Reasons {
		w.Reasons = append(w.Reasons, &wire.ReasonCode{Code: r.Code, Help: r.Help})
	}
	for _, s := range m.Settings {
		if s.fault != nil {
			return nil, fmt.Errorf("manifest of %q: setting %q: %w", m.Name, s.Key, s.fault)
		}
		value, err := json.Marshal(s.Default)
		if err != nil {
			return nil, fmt.Errorf("manifest of %q: default of setting %q: %w", m.Name, s.Key, err)
		}
		setting := &wire.Setting{
			Key: s.Key, Type: wire.Setting_Type(s.Type), DefaultJson: string(value), Help: s.Help, Pattern: s.Pattern, Example: s.Example,
		}
		if s.Min != nil {
			setting.MinBound = &wire.Setting_Min{Min: *s.Min}
		}
		if s.Max != nil {
			setting.MaxBound = &wire.Setting_Max{Max: *s.Max}
		}
		w.Settings = append(w.Settings, setting)
	}
	wire.DeclareProtocol(w)
	if err := wire.CheckManifest(w); err != nil {
		return nil, err
	}
	return w, nil
}

func (u Uses) wire() *wire.Uses {
	if len(u.Syscalls)+len(u.Host)+len(u.Devices) == 0 && !u.HostPIDs {
		return nil
	}
	return &wire.Uses{Syscalls: u.Syscalls, Host: u.Host, Devices: u.Devices, HostPids: u.HostPIDs}
}

func (s Syscall) wire() *wire.Syscall {
	w := &wire.Syscall{Name: s.Name, IfSettings: s.If, Repeat: wire.Repeat(s.Repeat), Compat: wire.Compat(s.Compat)}
	for _, match := range s.When {
		m := &wire.Match{}
		for _, c := range match {
			if c.Setting != "" {
				m.Settings = append(m.Settings, &wire.SettingCondition{Key: c.Setting, Pattern: c.Pattern})
				continue
			}
			m.All = append(m.All, &wire.Condition{Arg: number(c.Arg), Mask: c.Mask, Value: c.Value})
		}
		w.When = append(w.When, m)
	}
	for _, a := range s.Arguments {
		w.Arguments = append(w.Arguments, &wire.Argument{Name: a.Name, Format: wire.Argument_Format(a.Format)})
	}
	for _, r := range s.Reads {
		w.Reads = append(w.Reads, r.wire)
	}
	for _, c := range s.Captures {
		w.Captures = append(w.Captures, c.wire...)
	}
	return w
}
