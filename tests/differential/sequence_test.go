package differential

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// sequence is what one caller does.
type sequence struct {
	family   string
	bits     int      // of the caller: 64 or 32
	commands []string // of the caller: see the package comment of sdk/sdktest, "The caller"
}

// String is the sequence as parseSequences reads it.
func (s sequence) String() string {
	return fmt.Sprintf("family %s\nbits %d\n%s", s.family, s.bits, s.text())
}

func (s sequence) text() string {
	var b strings.Builder
	for _, c := range s.commands {
		b.WriteString(c)
		b.WriteByte('\n')
	}
	return b.String()
}

// parseSequences reads sequences. Each begins with a line "family NAME", and one "bits 32" if it has a caller of 32
// bits. Lines that begin with # are comments.
func parseSequences(text string) ([]sequence, error) {
	var all []sequence
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "" || word == "#":
		case word == "family":
			if _, known := families[rest]; !known {
				return nil, fmt.Errorf("%q: there is no such family", line)
			}
			all = append(all, sequence{family: rest, bits: 64})
		case len(all) == 0:
			return nil, fmt.Errorf("%q: a sequence begins with a line \"family NAME\"", line)
		case word == "bits":
			bits, err := strconv.Atoi(rest)
			if err != nil || bits != 64 && bits != 32 {
				return nil, fmt.Errorf("%q: want 64 or 32", line)
			}
			all[len(all)-1].bits = bits
		default:
			last := &all[len(all)-1]
			last.commands = append(last.commands, line)
		}
	}
	return all, nil
}

// printing are the commands that print a result, in order.
func (s sequence) printing() []string {
	var printing []string
	for _, c := range s.commands {
		if prints(c) {
			printing = append(printing, c)
		}
	}
	return printing
}

// prints reports whether a command prints a result.
func prints(command string) bool {
	word, _, _ := strings.Cut(command, " ")
	return word == "sys" || word == "stat" || word == "openfile"
}

// without is the sequence without one command.
func (s sequence) without(i int) sequence {
	s.commands = slices.Delete(slices.Clone(s.commands), i, i+1)
	return s
}
