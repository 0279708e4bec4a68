package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// MaxErrno is the largest errno that a system call can return (MAX_ERRNO, include/linux/err.h).
const MaxErrno = 4095

// CheckSetting says why value, as JSON, is not one that the setting takes.
func CheckSetting(s *Setting, value json.RawMessage) error {
	switch s.GetType() {
	case Setting_TYPE_BOOL:
		return decodeAs(value, new(bool), "true or false")
	case Setting_TYPE_INT:
		return checkInt(s, value)
	case Setting_TYPE_STRING:
		var text string
		if err := decodeAs(value, &text, "a string"); err != nil {
			return err
		}
		return checkText(s, text)
	case Setting_TYPE_STRING_LIST:
		var list []string
		if err := decodeAs(value, &list, "a list of strings"); err != nil {
			return err
		}
		return checkTexts(s, list)
	case Setting_TYPE_STRING_MAP:
		var table map[string]string
		if err := decodeAs(value, &table, "a table of strings"); err != nil {
			return err
		}
		return checkTexts(s, slices.Sorted(maps.Values(table)))
	default:
		return fmt.Errorf("unknown type %v", s.GetType())
	}
}

func decodeAs(value json.RawMessage, into any, want string) error {
	if bytes.Equal(bytes.TrimSpace(value), []byte("null")) || json.Unmarshal(value, into) != nil {
		return fmt.Errorf("%s: want %s", value, want)
	}
	return nil
}

func checkInt(s *Setting, value json.RawMessage) error {
	var n int64
	if err := decodeAs(value, &n, "a whole number"); err != nil {
		return err
	}
	if s.GetMinBound() != nil && n < s.GetMin() {
		return fmt.Errorf("%d: want %d or more", n, s.GetMin())
	}
	if s.GetMaxBound() != nil && n > s.GetMax() {
		return fmt.Errorf("%d: want %d or less", n, s.GetMax())
	}
	return nil
}

func checkTexts(s *Setting, texts []string) error {
	var faults []error
	for _, text := range texts {
		faults = append(faults, checkText(s, text))
	}
	return errors.Join(faults...)
}

func checkText(s *Setting, text string) error {
	if s.GetPattern() == "" {
		return nil
	}
	whole, err := regexp.Compile(`^(?:` + s.GetPattern() + `)$`)
	if err != nil {
		return fmt.Errorf("pattern of the setting: %w", err)
	}
	if whole.MatchString(text) {
		return nil
	}
	return fmt.Errorf("%q: %s", text, wanted(s))
}

// wanted says what the setting takes: its choices, or an example and its help, which names the forms.
func wanted(s *Setting) string {
	if choices.MatchString(s.GetPattern()) {
		return "want " + oneOf(strings.Split(s.GetPattern(), "|"))
	}
	want := "does not match " + s.GetPattern()
	if s.GetExample() != "" {
		want = fmt.Sprintf("want something like %q", s.GetExample())
	}
	if s.GetHelp() != "" {
		want += " (" + s.GetHelp() + ")"
	}
	return want
}

// choices matches a pattern that is an enumeration, such as host|container.
var choices = regexp.MustCompile(`^[\w-]+(\|[\w-]+)+$`)

// oneOf returns "a", "b" or "c".
func oneOf(names []string) string {
	var text strings.Builder
	for i, name := range names {
		switch {
		case i > 0 && i == len(names)-1:
			text.WriteString(" or ")
		case i > 0:
			text.WriteString(", ")
		}
		text.WriteString(strconv.Quote(name))
	}
	return text.String()
}
