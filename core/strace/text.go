package strace

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What is shown of a text at most, in bytes of it. For strings it is strace's own bound; strace shows a path whole.
const (
	maxString = 32
	maxPath   = 256
	maxReason = 256
)

// quote shows what may be the caller's memory as strace does: in quotes, with ... after them if there is more.
func quote(data []byte, limit int) string {
	if len(data) > limit {
		return `"` + octal(data[:limit]) + `"...`
	}
	return `"` + octal(data) + `"`
}

// escape is for words that are not quoted.
func escape(s string, limit int) string {
	if len(s) > limit {
		return octal([]byte(s[:limit])) + "..."
	}
	return octal([]byte(s))
}

// octal is data in printable ASCII, with C's escapes, as strace writes them.
func octal(data []byte) string {
	const short = "\t\n\v\f\r\"\\"
	const letters = `tnvfr"\`
	var b strings.Builder
	for i, c := range data {
		letter := strings.IndexByte(short, c)
		switch {
		case letter >= 0:
			b.WriteByte('\\')
			b.WriteByte(letters[letter])
		case c >= ' ' && c <= '~':
			b.WriteByte(c)
		case i+1 < len(data) && data[i+1] >= '0' && data[i+1] <= '9': // which would be part of a shorter number
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteString(`\` + strconv.FormatUint(uint64(c), 8))
		}
	}
	return b.String()
}

// text is for people: it has what is printable of Unicode as it is. The characters that turn around the direction of
// what follows are not printable (unicode.IsPrint).
func text(s string, limit int) string {
	var b strings.Builder
	for i, r := range s {
		width := utf8.RuneLen(r)
		if r == utf8.RuneError {
			_, width = utf8.DecodeRuneInString(s[i:])
		}
		if i+width > limit {
			return b.String() + "..."
		}
		if r != utf8.RuneError && unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		b.WriteString(octal([]byte(s[i : i+width])))
	}
	return b.String()
}
