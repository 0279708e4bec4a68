package filter

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// lxcStartup are the calls that LXC makes in the container between loading the filter and executing its first program,
// which its monitor waits for before it hands on anything (do_start, src/lxc/start.c in LXC).
var lxcStartup = []string{
	"read", "write", "close", "fcntl", "dup", "dup3", "openat", "newfstatat", "fstat", "fchown", "sendmsg", "sendto", "setsid",
	"chdir", "setgroups", "setresuid", "setresgid", "getuid", "prctl", "capset", "rt_sigaction", "rt_sigprocmask", "execve",
}

// LXC is a seccomp policy (lxc.seccomp.profile, version 2 of its format) that makes LXC notify what the manifests take.
//
// Without a base (empty), the rest is allowed. A base is such a policy, like /usr/share/lxc/config/common.seccomp; the
// plugins' rules come first, and what they leave over of a call keeps the base's action, as with [OCI]. A base that
// notifies by itself is refused, and one whose rules for such a call cannot be told apart from the plugins'.
func LXC(base []byte, manifests []*wire.Manifest) ([]byte, error) {
	captures, err := collect(manifests)
	if err != nil {
		return nil, err
	}
	if err := refuse(captures, lxcStartup, "LXC makes it itself before its monitor hands on anything"); err != nil {
		return nil, err
	}
	if err := errors.Join(checkMultiplexed(captures), refuseIPC(captures)); err != nil {
		return nil, err
	}
	p, err := readLXCPolicy(string(base))
	if err != nil {
		return nil, fmt.Errorf("base policy: %w", err)
	}
	groups := groupByMatches(p.withoutForced(captures))
	notify, err := lxcNotifyLines(groups)
	if err != nil {
		return nil, err
	}
	others, err := p.outside(groups)
	if err != nil {
		return nil, fmt.Errorf("base policy: %w", err)
	}
	lines := slices.Concat([]string{"2", p.style, "[all]"}, notify, others)
	return []byte(strings.Join(lines, "\n") + "\n"), nil
}

// lxcNotifyLines gives the rules that notify. LXC leaves out calls that its libseccomp does not know.
func lxcNotifyLines(groups []*group) ([]string, error) {
	var lines []string
	for _, g := range groups {
		if err := checkRules(g.matches); err != nil {
			return nil, fmt.Errorf("syscall %s: %w", strings.Join(g.names, ", "), err)
		}
		for _, name := range g.names {
			if len(g.matches) == 0 {
				lines = append(lines, name+" notify")
			}
			for _, m := range g.matches {
				lines = append(lines, name+" notify "+m.lxc())
			}
		}
	}
	return lines, nil
}

// lxc gives the match as LXC writes it: a bracket for each condition.
func (m match) lxc() string {
	var text strings.Builder
	for _, c := range m.comparisons() {
		text.WriteString(c.lxc())
	}
	return text.String()
}

// lxc is [INDEX,VALUE,OPERATOR] or [INDEX,VALUE,OPERATOR,MASK]. Where OCI has the mask first, LXC has the value first.
func (c comparison) lxc() string {
	if c.Op == opMaskedEqual {
		return fmt.Sprintf("[%d,%d,%s,%d]", c.Index, c.ValueTwo, c.Op, c.Value)
	}
	return fmt.Sprintf("[%d,%d,%s]", c.Index, c.Value, c.Op)
}

// lxcPolicy is a policy in LXC's format.
type lxcPolicy struct {
	style string // "denylist" or "allowlist", perhaps with an action
	rules []lxcRule
}

// lxcRule is a line of a policy. Lines that are no rule have no name.
type lxcRule struct {
	text, name string
	action     string // empty: that of the style
	args       bool
	noForce    bool // it is about umount2 with MNT_FORCE
}

// The parts of a policy that are not syscalls.
const (
	lxcForceUmount = "reject_force_umount" // a rule about umount2
	lxcMaxLine     = 4096                  // in bytes
)

var errLXCNotifies = errors.New("it notifies: a container has one listener, and that is intercede's")

func readLXCPolicy(text string) (*lxcPolicy, error) {
	if strings.TrimSpace(text) == "" {
		return &lxcPolicy{style: "denylist"}, nil
	}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if strings.TrimSpace(lines[0]) != "2" {
		return nil, fmt.Errorf("line 1: %.40q: want 2, the version of LXC's format that can notify", lines[0])
	}
	p := &lxcPolicy{}
	for i, line := range lines[1:] {
		if err := p.read(line); err != nil {
			return nil, fmt.Errorf("line %d: %.100q: %w", i+2, line, err)
		}
	}
	if p.style == "" {
		return nil, errors.New("its second line is missing: want allowlist or denylist")
	}
	return p, nil
}

// read reads one line: the second of a policy is its style, the others are rules.
func (p *lxcPolicy) read(line string) error {
	if len(line) > lxcMaxLine || strings.ContainsRune(line, 0) {
		return fmt.Errorf("want at most %d bytes without NUL", lxcMaxLine)
	}
	rule := readLXCRule(line)
	switch {
	case strings.HasPrefix(rule.action, "notify"):
		return errLXCNotifies
	case p.style != "":
		p.rules = append(p.rules, rule)
		return nil
	case !slices.Contains([]string{"allowlist", "denylist", "whitelist", "blacklist"}, rule.name):
		return errors.New("want allowlist or denylist")
	default:
		p.style = line
		return nil
	}
}

// withoutForced leaves out umount2(2) where the plugins take no other calls of it than the policy rejects.
func (p *lxcPolicy) withoutForced(captures []*capture) []*capture {
	if !slices.ContainsFunc(p.rules, func(r lxcRule) bool { return r.noForce }) {
		return captures
	}
	return slices.DeleteFunc(captures, func(c *capture) bool {
		return c.name == "umount2" && len(c.matches) > 0 && !slices.ContainsFunc(c.matches, match.withoutForce)
	})
}

// withoutForce reports whether the match can hold for umount2(2) without MNT_FORCE.
func (m match) withoutForce() bool {
	return !slices.ContainsFunc(m, func(c condition) bool { return c.arg == 1 && c.value&unix.MNT_FORCE != 0 })
}

// readLXCRule reads NAME, NAME ACTION or NAME ACTION [ARGUMENT]..., where ACTION may be several words.
func readLXCRule(line string) lxcRule {
	rule := lxcRule{text: line}
	text, _, _ := strings.Cut(line, "#")
	if strings.HasPrefix(text, "[") {
		return rule
	}
	text, _, rule.args = strings.Cut(text, "[")
	words := strings.Fields(text)
	if len(words) == 0 {
		return rule
	}
	rule.name, rule.action = words[0], strings.Join(words[1:], " ")
	if rule.name == lxcForceUmount {
		rule.name, rule.args, rule.noForce = "umount2", true, true
	}
	return rule
}

// outside gives the policy's lines for what the groups leave over.
func (p *lxcPolicy) outside(groups []*group) ([]string, error) {
	var lines []string
	for i, r := range p.rules {
		g := groupOf(groups, r.name)
		if g == nil {
			lines = append(lines, r.text)
			continue
		}
		if err := p.checkPrecedence(g, i); err != nil {
			return nil, err
		}
		if r.action == "" {
			r.action = p.ruleAction()
		}
		outside, err := r.outside(g)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", r.text, err)
		}
		lines = append(lines, outside...)
	}
	return lines, nil
}

// groupOf is the group that the call is in; nil: none.
func groupOf(groups []*group, name string) *group {
	i := slices.IndexFunc(groups, func(g *group) bool { return slices.Contains(g.names, name) })
	if i < 0 {
		return nil
	}
	return groups[i]
}

// ruleAction is the action of rules that have none.
func (p *lxcPolicy) ruleAction() string {
	if strings.HasPrefix(p.style, "allowlist") || strings.HasPrefix(p.style, "whitelist") {
		return "allow"
	}
	return "kill"
}

// checkPrecedence refuses an earlier rule for the same call with another action; see the rules of OCI profiles.
func (p *lxcPolicy) checkPrecedence(g *group, i int) error {
	for _, earlier := range p.rules[:i] {
		if len(g.matches) > 0 && earlier.name == p.rules[i].name && earlier.action != p.rules[i].action {
			return fmt.Errorf("%q and %q decide on the same call, differently: keep one, so that it is clear what happens to calls that are not intercepted",
				earlier.text, p.rules[i].text)
		}
	}
	return nil
}

// outside gives the rule's lines for calls of the group where none of its matches holds.
func (r lxcRule) outside(g *group) ([]string, error) {
	if len(g.matches) == 0 {
		return nil, nil
	}
	if r.args {
		return nil, errors.New("the rule compares arguments, which cannot be joined with the plugins' conditions: give the call a rule without them")
	}
	comparisons, err := rest(g.matches)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, c := range comparisons {
		lines = append(lines, r.name+" "+r.action+" "+c.lxc())
	}
	return lines, nil
}
