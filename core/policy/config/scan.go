package config

import "strings"

// mark is where a key stands in the text, as byte offsets.
type mark struct {
	offset   int   // of the key, or of its table's bracket
	elements []int // of the elements, where the value is an array
	assigns  bool  // key = value, not [key]
}

// scanKeys finds every table header and every assigned key of valid TOML, those of inline tables too, in the order of
// the text: the marks of [toml.MetaData.Keys], which has no positions.
func scanKeys(text string) []mark {
	s := &scanner{text: text}
	for s.skipBlank(" \t\r\n"); s.pos < len(s.text); s.skipBlank(" \t\r\n") {
		if s.peek() == '[' {
			s.marks = append(s.marks, mark{offset: s.pos})
			s.skipHeader()
		} else {
			s.assignment()
		}
	}
	return s.marks
}

// scanner relies on the text being valid TOML; on other text its marks are wrong, but it ends, within the text.
type scanner struct {
	text  string
	pos   int
	marks []mark
}

// peek is the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.pos >= len(s.text) {
		return 0
	}
	return s.text[s.pos]
}

// skipBlank skips bytes of set, and comments.
func (s *scanner) skipBlank(set string) {
	for s.pos < len(s.text) {
		switch {
		case s.text[s.pos] == '#':
			s.skipUntil("\n")
		case strings.IndexByte(set, s.text[s.pos]) >= 0:
			s.pos++
		default:
			return
		}
	}
}

// skipUntil stops at a byte of set or at the end.
func (s *scanner) skipUntil(set string) {
	n := strings.IndexAny(s.text[s.pos:], set)
	if n < 0 {
		n = len(s.text) - s.pos
	}
	s.pos += n
}

func (s *scanner) skipHeader() {
	for s.peek() == '[' {
		s.pos++
	}
	s.skipKey(']')
	for s.peek() == ']' {
		s.pos++
	}
}

// skipKey stops at the end byte outside of quotes.
func (s *scanner) skipKey(end byte) {
	for s.pos < len(s.text) && s.text[s.pos] != end {
		if c := s.text[s.pos]; c == '"' || c == '\'' {
			s.skipString(c)
		} else {
			s.pos++
		}
	}
}

func (s *scanner) assignment() {
	i := len(s.marks)
	s.marks = append(s.marks, mark{offset: s.pos, assigns: true})
	s.skipKey('=')
	s.pos = min(s.pos+1, len(s.text))
	s.skipBlank(" \t")
	elements := s.value()
	s.marks[i].elements = elements
}

// value skips a value; it returns the offsets of an array's elements.
func (s *scanner) value() (elements []int) {
	switch c := s.peek(); c {
	case '"', '\'':
		s.skipString(c)
	case '[':
		return s.array()
	case '{':
		s.inlineTable()
	default:
		s.skipUntil(",]}#\r\n")
	}
	return nil
}

func (s *scanner) array() (elements []int) {
	s.pos++
	for s.skipBlank(" \t\r\n,"); s.pos < len(s.text) && s.peek() != ']'; s.skipBlank(" \t\r\n,") {
		start := s.pos
		elements = append(elements, start)
		s.value()
		if s.pos == start {
			s.pos++
		}
	}
	s.pos = min(s.pos+1, len(s.text))
	return elements
}

func (s *scanner) inlineTable() {
	s.pos++
	for s.skipBlank(" \t\r\n,"); s.pos < len(s.text) && s.peek() != '}'; s.skipBlank(" \t\r\n,") {
		s.assignment()
	}
	s.pos = min(s.pos+1, len(s.text))
}

// skipString skips a string of any of the four kinds.
func (s *scanner) skipString(quote byte) {
	delimiter := string(quote)
	if triple := strings.Repeat(delimiter, 3); strings.HasPrefix(s.text[s.pos:], triple) {
		delimiter = triple
	}
	s.pos += len(delimiter)
	for s.pos < len(s.text) && !strings.HasPrefix(s.text[s.pos:], delimiter) {
		if quote == '"' && s.text[s.pos] == '\\' {
			s.pos++
		}
		s.pos++
	}
	s.pos = min(s.pos+len(delimiter), len(s.text))
	// A multi-line string may end in one or two quotes of its own.
	for len(delimiter) == 3 && s.peek() == quote {
		s.pos++
	}
}
