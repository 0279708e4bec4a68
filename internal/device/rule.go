// Package device reads rules about device nodes, as podman's --device-cgroup-rule has them: "c 10:229 rwm".
package device

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

// Rule allows an access to device nodes.
type Rule struct {
	Block        bool  // or else a character device
	Major, Minor int64 // Any: all
	Access       Access
}

// Any is a number that stands for all.
const Any = -1

// Access is a set of what can be done with a device node, with the kernel's bits (BPF_DEVCG_ACC_*, linux/bpf.h).
type Access int32

const (
	Make  Access = 1
	Read  Access = 2
	Write Access = 4
)

var accessLetters = map[rune]Access{'m': Make, 'r': Read, 'w': Write}

var ruleText = regexp.MustCompile(`^([bc]) ([0-9]+|\*):([0-9]+|\*) ([rwm]+)$`)

// ParseRules reads rules.
func ParseRules(texts []string) ([]Rule, error) {
	var rules []Rule
	for _, text := range texts {
		rule, err := parseRule(text)
		if err != nil {
			return nil, fmt.Errorf("device rule %q: %w", text, err)
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func parseRule(text string) (Rule, error) {
	parts := ruleText.FindStringSubmatch(text)
	if parts == nil {
		return Rule{}, errors.New("want TYPE MAJOR:MINOR ACCESS, such as \"c 10:229 rw\": " +
			"TYPE is c or b, a number may be *, ACCESS has r, w, m")
	}
	major, err1 := number(parts[2], 12)
	minor, err2 := number(parts[3], 20)
	if err := errors.Join(err1, err2); err != nil {
		return Rule{}, err
	}
	rule := Rule{Block: parts[1] == "b", Major: major, Minor: minor}
	for _, letter := range parts[4] {
		rule.Access |= accessLetters[letter]
	}
	return rule, nil
}

// number reads a major or minor, which have 12 and 20 bits in the kernel (include/linux/kdev_t.h).
func number(text string, bits int) (int64, error) {
	if text == "*" {
		return Any, nil
	}
	n, err := strconv.ParseUint(text, 10, bits)
	if err != nil {
		return 0, fmt.Errorf("%s is not a device number of %d bits", text, bits)
	}
	return int64(n), nil
}

// String is the rule as ParseRules reads it, and as the devices controller of cgroup version 1 takes it.
func (r Rule) String() string {
	kind := "c"
	if r.Block {
		kind = "b"
	}
	access := ""
	for _, letter := range "rwm" {
		if r.Access&accessLetters[letter] != 0 {
			access += string(letter)
		}
	}
	return fmt.Sprintf("%s %s:%s %s", kind, numberText(r.Major), numberText(r.Minor), access)
}

func numberText(n int64) string {
	if n == Any {
		return "*"
	}
	return strconv.FormatInt(n, 10)
}
