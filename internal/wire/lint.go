package wire

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// never are system calls that cannot be intercepted, with the reason.
var never = map[string]string{
	"exit":            "it does not return, so that there is nothing to answer",
	"exit_group":      "it does not return, so that there is nothing to answer",
	"execve":          "the caller becomes another program in it, which no answer can do",
	"execveat":        "the caller becomes another program in it, which no answer can do",
	"sigreturn":       "it returns to where a signal came, whatever is answered",
	"rt_sigreturn":    "it returns to where a signal came, whatever is answered",
	"restart_syscall": "the kernel makes it for the caller, to go on with another call",
	// arch/x86/kernel/uprobes.c; since 6.14 no filter sees them (__secure_computing, kernel/seccomp.c).
	"uretprobe": "only code of the kernel's own makes it, where a function that is traced returns",
	"uprobe":    "only code of the kernel's own makes it, where a function is traced",
}

// checkOneLine refuses text that would not stay on its line of a terminal or a log.
func checkOneLine(what, text string) error {
	if strings.ContainsFunc(text, unicode.IsControl) {
		return fmt.Errorf("%s %q: want one line, without control characters", what, text)
	}
	return nil
}

// placeCapabilities are what sdk/target's Do needs, for which a place is captured.
var placeCapabilities = []string{"CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SETUID", "CAP_SETGID"}

// checkPlace refuses to capture the place for a process that cannot enter it.
func checkPlace(m *Manifest) (faults []error) {
	var missing []string
	for _, name := range placeCapabilities {
		if !slices.Contains(m.GetCapabilities(), name) {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	for _, s := range m.GetSyscalls() {
		if slices.ContainsFunc(s.GetCaptures(), func(c *Declared) bool { return c.GetPart() == Part_PART_MOUNT_NAMESPACE }) {
			faults = append(faults, fmt.Errorf("syscall %q: the place is captured to act there, which needs %s: declare them, or do not capture it",
				s.GetName(), strings.Join(missing, ", ")))
		}
	}
	return faults
}

// checkDeclaration says what is wrong with a setting, whatever its default is.
func checkDeclaration(s *Setting) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	isText := s.GetType() == Setting_TYPE_STRING || s.GetType() == Setting_TYPE_STRING_LIST || s.GetType() == Setting_TYPE_STRING_MAP
	if !isText && (s.GetPattern() != "" || s.GetExample() != "") {
		fault("a pattern and an example are for strings")
	}
	if s.GetType() != Setting_TYPE_INT && (s.GetMinBound() != nil || s.GetMaxBound() != nil) {
		fault("min and max are for whole numbers")
	}
	if s.GetMinBound() != nil && s.GetMaxBound() != nil && s.GetMin() > s.GetMax() {
		fault("min %d is above max %d", s.GetMin(), s.GetMax())
	}
	if isText && s.GetExample() != "" {
		if err := checkText(&Setting{Pattern: s.GetPattern()}, s.GetExample()); err != nil {
			fault("the example: %w", err)
		}
	}
	if err := checkOneLine("help", s.GetHelp()); err != nil {
		fault("%w", err)
	}
	return errors.Join(faults...)
}
