package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/intercede/intercede/internal/device"
	"github.com/intercede/intercede/internal/syscalls"
	"github.com/moby/sys/capability"
)

const (
	// MaxRead is the largest declared or asked-for read of a caller's memory, in bytes.
	MaxRead = 1 << 20
	// MaxMessage is the largest message, in bytes: every argument can be a pointer to a declared read.
	MaxMessage = 8 * MaxRead

	// GRPCBuffer is the size of a connection's buffers for reading and writing, in bytes. Where calls are rare, gRPC
	// makes new ones for nearly every call: its own 32 KiB were a third of what attaching a container allocates. What
	// is larger than a buffer goes around it.
	GRPCBuffer = 4 << 10
)

var (
	pluginName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
)

// CheckPluginName says why name cannot be a plugin's.
func CheckPluginName(name string) error {
	if !pluginName.MatchString(name) {
		return fmt.Errorf("plugin name %q: want a lower-case letter, then lower-case letters, digits and underscores", name)
	}
	return nil
}

// CheckCapability says why there is no capability of the name.
func CheckCapability(name string) error {
	for _, c := range capability.ListKnown() {
		if name == "CAP_"+strings.ToUpper(c.String()) {
			return nil
		}
	}
	return fmt.Errorf("capability %q: there is none of that name: want one such as CAP_MKNOD (capabilities(7))", name)
}

// CheckManifest says everything that is wrong with a manifest. Both ends call it: the plugin before it serves, the
// broker since a manifest is a plugin's word.
func CheckManifest(m *Manifest) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if err := CheckPluginName(m.GetName()); err != nil {
		fault("%w", err)
	}
	if m.GetVersion() == "" {
		fault("no version")
	}
	for what, text := range map[string]string{"version": m.GetVersion(), "description": m.GetDescription()} {
		if err := checkOneLine(what, text); err != nil {
			fault("%w", err)
		}
	}
	if len(m.GetSyscalls()) == 0 {
		fault("no syscalls")
	}
	seen := map[string]bool{}
	for _, s := range m.GetSyscalls() {
		if seen[s.GetName()] {
			fault("syscall %s: given twice", s.GetName())
		}
		seen[s.GetName()] = true
		for _, f := range syscallFaults(s) {
			fault("syscall %q: %s", s.GetName(), f)
		}
	}
	for _, c := range slices.Concat(m.GetCapabilities(), m.GetCallerCapabilities()) {
		if err := CheckCapability(c); err != nil {
			fault("%w", err)
		}
	}
	for _, err := range checkPlace(m) {
		fault("%w", err)
	}
	for _, err := range usesFaults(m.GetUses(), len(m.GetCapabilities()) > 0) {
		if err != nil {
			fault("uses: %w", err)
		}
	}
	keys := map[string]bool{}
	lists := map[string]bool{}
	for _, s := range m.GetSettings() {
		if keys[s.GetKey()] {
			fault("setting %s: given twice", s.GetKey())
		}
		keys[s.GetKey()], lists[s.GetKey()] = true, s.GetType() == Setting_TYPE_STRING_LIST
		if err := checkDeclaration(s); err != nil {
			fault("setting %s: %w", s.GetKey(), err)
		}
		if err := CheckSetting(s, json.RawMessage(s.GetDefaultJson())); err != nil {
			fault("default of setting %s: %w", s.GetKey(), err)
		}
	}
	for _, s := range m.GetSyscalls() {
		for _, key := range s.GetIfSettings() {
			if !keys[key] {
				fault("syscall %q: there is no setting %q to switch it on", s.GetName(), key)
			}
		}
		for _, match := range s.GetWhen() {
			for _, c := range match.GetSettings() {
				if !keys[c.GetKey()] {
					fault("syscall %q: a condition on the setting %q, which does not exist", s.GetName(), c.GetKey())
				}
				if c.GetPattern() != "" && keys[c.GetKey()] && !lists[c.GetKey()] {
					fault("syscall %q: a pattern for the setting %s, which is not a list", s.GetName(), c.GetKey())
				}
				if _, err := regexp.Compile(c.GetPattern()); err != nil {
					fault("syscall %q: a condition on the setting %s: %w", s.GetName(), c.GetKey(), err)
				}
			}
		}
	}
	if m.GetNeverContinue() && m.GetOnFailure().GetErrno() == 0 {
		fault("never_continue: on_failure must be an errno")
	}
	for _, err := range checkReasons(m) {
		fault("%w", err)
	}
	if err := checkVerdict(m.GetOnFailure()); err != nil {
		fault("on_failure: %w", err)
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("manifest of %q: %w", m.GetName(), errors.Join(faults...))
}

func usesFaults(u *Uses, privileged bool) []error {
	var faults []error
	for _, name := range u.GetSyscalls() {
		faults = append(faults, syscalls.Check(name))
	}
	for _, path := range u.GetHost() {
		faults = append(faults, CheckHostPath(path))
		if path == "/proc" && privileged {
			// Without capabilities it reads there what every user of the host does.
			faults = append(faults, fmt.Errorf("path %q of the host: only a process without capabilities may have it", path))
		}
	}
	_, err := device.ParseRules(u.GetDevices())
	return append(faults, err)
}

// ownPaths are never the host's: the process's root, the processes that it sees, its socket.
var ownPaths = regexp.MustCompile(`^/$|^/proc/(self|thread-self|[0-9]+)(/.*)?$|^` + OwnDir + `(/.*)?$`)

// CheckHostPath says why a plugin's process cannot have the path of the host.
func CheckHostPath(path string) error {
	if !strings.HasPrefix(path, "/") || filepath.Clean(path) != path || strings.ContainsFunc(path, unicode.IsControl) {
		return fmt.Errorf("path %q of the host: want an absolute one without \"..\", doubled or trailing slashes, and control characters", path)
	}
	if ownPaths.MatchString(path) {
		return fmt.Errorf("path %q of the host: the process has one of its own there", path)
	}
	return nil
}

func syscallFaults(s *Syscall) []string {
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if s.GetName() == "" {
		fault("no name")
	}
	if reason, ok := never[s.GetName()]; ok {
		fault("it cannot be intercepted: %s", reason)
	}
	for _, match := range s.GetWhen() {
		if len(match.GetAll()) == 0 {
			fault("an empty match: leave it out to have every call")
		}
		seen := map[uint32]bool{}
		for _, c := range match.GetAll() {
			if c.GetArg() > 5 {
				fault("condition on argument %d: arguments are 0 to 5", c.GetArg())
			}
			if seen[c.GetArg()] {
				fault("two conditions on argument %d in one match: seccomp allows one", c.GetArg())
			}
			seen[c.GetArg()] = true
			if c.GetValue()&^c.GetMask() != 0 {
				fault("condition on argument %d never holds: value %#x has bits outside mask %#x", c.GetArg(), c.GetValue(), c.GetMask())
			}
		}
	}
	if err := checkCompat(s); err != nil {
		fault("%v", err)
	}
	if n := len(s.GetArguments()); n > 6 {
		fault("%d arguments: a system call has six at most", n)
	}
	for _, c := range s.GetCaptures() {
		if _, known := Part_name[int32(c.GetPart())]; !known || c.GetPart() == Part_PART_UNSPECIFIED {
			fault("capture of part %d: there is none of that number", c.GetPart())
		}
		if c.GetArg() > 5 {
			fault("capture by argument %d: arguments are 0 to 5", c.GetArg())
		}
	}
	if _, known := Repeat_name[int32(s.GetRepeat())]; !known {
		fault("repeat %d: want never, safe or check", s.GetRepeat())
	}
	args := map[uint32]bool{}
	for _, r := range s.GetReads() {
		if r.GetArg() > 5 {
			fault("read of argument %d: arguments are 0 to 5", r.GetArg())
		}
		if args[r.GetArg()] {
			fault("argument %d is read twice", r.GetArg())
		}
		args[r.GetArg()] = true
		var size uint32
		switch kind := r.GetKind().(type) {
		case *Read_String_:
			size = kind.String_.GetMax()
		case *Read_Bytes:
			size = kind.Bytes.GetMax()
			if kind.Bytes.GetLengthArg() > 5 {
				fault("length argument %d: arguments are 0 to 5", kind.Bytes.GetLengthArg())
			}
			if kind.Bytes.GetLengthArg() == r.GetArg() {
				fault("argument %d is both a pointer and the length of what it points to", r.GetArg())
			}
		case *Read_Struct:
			size = kind.Struct.GetSize()
		}
		if size == 0 || size > MaxRead {
			fault("read of argument %d: size %d: want 1 to %d bytes", r.GetArg(), size, MaxRead)
		}
	}
	return faults
}

func checkVerdict(v *Verdict) error {
	switch kind := v.GetKind().(type) {
	case *Verdict_Continue:
		if !kind.Continue {
			return errors.New("continue is false: want true, or an errno")
		}
		return nil
	case *Verdict_Errno:
		if kind.Errno < 1 || kind.Errno > MaxErrno {
			return fmt.Errorf("errno %d: want 1 to %d", kind.Errno, MaxErrno)
		}
		return nil
	default:
		return errors.New("missing: want continue or an errno")
	}
}
