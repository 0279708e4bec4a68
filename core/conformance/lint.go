package conformance

import (
	"fmt"
	"slices"
	"strings"

	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/internal/wire"
)

// hostPowers are capabilities by which a process becomes root of the host, whatever the sandbox keeps from it.
var hostPowers = []string{"CAP_SYS_MODULE", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_BOOT", "CAP_MAC_ADMIN", "CAP_SETFCAP"}

// lint says what could be better in a manifest that the launcher takes.
func lint(m *wire.Manifest) (warnings []Finding) {
	warn := func(syscall, next, format string, args ...any) {
		warnings = append(warnings, Finding{Syscall: syscall, Text: fmt.Sprintf(format, args...), Next: next})
	}
	if m.GetDescription() == "" {
		warn("", "say in one line what the plugin does: plugin list shows it", "no description")
	}
	for _, c := range m.GetCapabilities() {
		if slices.Contains(hostPowers, c) {
			warn("", "find a way without it, or say in the README why there is none", "%s makes the process root of the host", c)
		}
	}
	for _, s := range m.GetSettings() {
		if s.GetHelp() == "" {
			warn("", "say what it does: profile and plugin list show it", "setting %s has no help", s.GetKey())
		}
		if s.GetPattern() != "" && s.GetExample() == "" {
			warn("", "give a value that the pattern accepts: error messages show it", "setting %s has a pattern and no example", s.GetKey())
		}
	}
	for _, s := range m.GetSyscalls() {
		if len(s.GetArguments()) == 0 {
			warn(s.GetName(), "name them in Arguments, if the call has any", "logs show six registers instead of arguments")
		}
		if kin := s.GetName() + "at"; isCall(kin) && !takes(m, kin) {
			warn(s.GetName(), "take it too, or say in the README why not", "programs that call %s are not intercepted", kin)
		}
	}
	if _, err := filter.OCI(nil, []*wire.Manifest{m}, filter.Listener{Path: "/"}); err != nil {
		warn("", "change the conditions (When), or say in the README that it is for `intercede run` alone", "no profile for OCI runtimes: %v", err)
	}
	return warnings
}

func takes(m *wire.Manifest, name string) bool {
	return slices.ContainsFunc(m.GetSyscalls(), func(s *wire.Syscall) bool { return s.GetName() == name })
}

// isCall reports whether an architecture of this machine has a system call of that name.
func isCall(name string) bool {
	_, err := filter.Resolve([]*wire.Manifest{{Syscalls: []*wire.Syscall{{Name: name}}}})
	return err == nil
}

func joined(parts []string) string { return strings.Join(parts, ", ") }
