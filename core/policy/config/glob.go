package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxGlob bounds a pattern, in bytes.
const maxGlob = 1024

// glob is a pattern for a whole text: * stands for any characters, / included, ? for one, [a-z] for one of these,
// [!a-z] for one of all others; \ takes the character after it as it is. Matching takes linear time.
type glob struct {
	text    string
	pattern *regexp.Regexp
}

func parseGlob(text string) (glob, error) {
	if len(text) > maxGlob {
		return glob{}, fmt.Errorf("a pattern of %d bytes: it may have %d", len(text), maxGlob)
	}
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for rest := text; rest != ""; {
		part, length, err := translateGlob(rest)
		if err != nil {
			return glob{}, err
		}
		b.WriteString(part)
		rest = rest[length:]
	}
	b.WriteString(`\z`)
	pattern, err := regexp.Compile(b.String())
	return glob{text, pattern}, err
}

func (g glob) matches(text string) bool { return g.pattern.MatchString(text) }

// translateGlob makes a regular expression (RE2) of what the pattern begins with, and says how many bytes that was.
func translateGlob(rest string) (expression string, length int, err error) {
	switch rest[0] {
	case '*':
		return `.*`, 1, nil
	case '?':
		return `.`, 1, nil
	case '[':
		return translateClass(rest)
	default:
		r, length, err := globRune(rest)
		return runeExpression(r), length, err
	}
}

// translateClass translates [a-z_] and [!a-z_].
func translateClass(rest string) (expression string, length int, err error) {
	var b strings.Builder
	b.WriteByte('[')
	at := 1
	if at < len(rest) && (rest[at] == '!' || rest[at] == '^') {
		b.WriteByte('^')
		at++
	}
	first := at
	for at < len(rest) && rest[at] != ']' {
		low, n, err := globRune(rest[at:])
		if err != nil {
			return "", 0, err
		}
		at += n
		high := low
		if at+1 < len(rest) && rest[at] == '-' && rest[at+1] != ']' {
			if high, n, err = globRune(rest[at+1:]); err != nil {
				return "", 0, err
			}
			at += 1 + n
		}
		if low > high {
			return "", 0, fmt.Errorf("the range %c-%c runs backwards", low, high)
		}
		b.WriteString(runeExpression(low) + "-" + runeExpression(high))
	}
	if at == len(rest) {
		return "", 0, errors.New(`a [ without its ]: write \[ for the character`)
	}
	if at == first {
		return "", 0, errors.New("[] has no characters between its brackets")
	}
	b.WriteByte(']')
	return b.String(), at + 1, nil
}

// globRune is the next character, the one behind a \ if there is one.
func globRune(rest string) (r rune, length int, err error) {
	escape := 0
	if rest[0] == '\\' {
		escape = 1
	}
	if escape == len(rest) {
		return 0, 0, errors.New(`it ends in a \: write \\ for the character`)
	}
	r, length = utf8.DecodeRuneInString(rest[escape:])
	if r == utf8.RuneError && length == 1 {
		return 0, 0, errors.New("it is not UTF-8")
	}
	return r, escape + length, nil
}

func runeExpression(r rune) string { return fmt.Sprintf(`\x{%x}`, r) }
