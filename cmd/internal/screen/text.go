package screen

import (
	"strconv"
	"unicode/utf8"
)

// Attributes of a terminal, without colours (ECMA-48, SGR).
func bold(text string) string    { return "\x1b[1m" + text + "\x1b[m" }
func dim(text string) string     { return "\x1b[2m" + text + "\x1b[m" }
func reverse(text string) string { return "\x1b[7m" + text + "\x1b[m" }

// plain escapes what is not to reach a terminal.
func plain(text string) string {
	quoted := strconv.QuoteToASCII(text)
	return quoted[1 : len(quoted)-1]
}

// cut is the text, or its beginning if it is longer than so many characters.
func cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:max(width, 0)])
}
