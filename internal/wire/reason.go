package wire

import (
	"fmt"
	"regexp"
	"strconv"
	"unicode/utf8"
)

const (
	// MaxReasonText bounds the text of a reason, in bytes.
	MaxReasonText = 256
	// MaxReasons bounds the codes of a plugin, each of which is a label of metrics.
	MaxReasons = 64
)

var reasonCode = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

func checkReasons(m *Manifest) (faults []error) {
	if n := len(m.GetReasons()); n > MaxReasons {
		faults = append(faults, fmt.Errorf("%d reasons: the limit is %d", n, MaxReasons))
	}
	seen := map[string]bool{}
	for _, r := range m.GetReasons() {
		if !reasonCode.MatchString(r.GetCode()) {
			faults = append(faults, fmt.Errorf("reason %q: want a lower-case letter, then lower-case letters, digits and underscores, 40 at most", r.GetCode()))
		}
		if seen[r.GetCode()] {
			faults = append(faults, fmt.Errorf("reason %s: given twice", r.GetCode()))
		}
		seen[r.GetCode()] = true
		if r.GetHelp() == "" {
			faults = append(faults, fmt.Errorf("reason %s: no help: say what it means, and what an operator can do", r.GetCode()))
		}
		if err := checkOneLine("help", r.GetHelp()); err != nil {
			faults = append(faults, fmt.Errorf("reason %s: %w", r.GetCode(), err))
		}
	}
	return faults
}

// Declares reports whether the manifest has the reason's code.
func (m *Manifest) Declares(r *Reason) bool {
	for _, declared := range m.GetReasons() {
		if declared.GetCode() == r.GetCode() {
			return true
		}
	}
	return false
}

// cut is the end of a text that was cut.
const cut = "..."

// Plain returns the text as one line of at most max bytes that a terminal shows as it is: characters that cannot be
// printed are escaped as in Go's string literals, and "..." follows a text that was cut. What a plugin says may have
// been said by a container.
func Plain(text string, max int) string {
	if len(text) <= max && isPlain(text) {
		return text
	}
	var plain []byte
	fits := 0 // as much of plain has room for cut after it
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		piece := text[:size]
		switch {
		case r == utf8.RuneError && size == 1:
			piece = fmt.Sprintf(`\x%02x`, text[0])
		case !strconv.IsPrint(r):
			quoted := strconv.QuoteRune(r)
			piece = quoted[1 : len(quoted)-1]
		}
		if len(plain)+len(piece) > max {
			return string(plain[:fits]) + cut
		}
		if plain = append(plain, piece...); len(plain) <= max-len(cut) {
			fits = len(plain)
		}
		text = text[size:]
	}
	return string(plain)
}

func isPlain(text string) bool {
	for _, r := range text {
		if !strconv.IsPrint(r) || r == utf8.RuneError {
			return false
		}
	}
	return true
}
