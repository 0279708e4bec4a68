package config

import (
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// places knows where the keys of a config file stand.
type places struct {
	file  string
	text  string
	lines []int           // offset of each line's start
	marks map[string]mark // by keyText
}

// Key is the path of a key, as toml.Decode has it: broker, socket.
type Key = toml.Key

func newPlaces(file, text string) *places {
	p := &places{file: file, text: text, lines: []int{0}, marks: map[string]mark{}}
	for i := range len(text) {
		if text[i] == '\n' {
			p.lines = append(p.lines, i+1)
		}
	}
	return p
}

// learn takes the keys in the order of the text, with their marks. A table that only its keys imply stands where the
// first of them does; a key in an array of tables, where it stands in the first of them, but each rule has its own.
func (p *places) learn(keys []Key, marks []mark) {
	keys = p.numberRules(keys, marks)
	for i, key := range keys {
		p.add(key, marks[i])
	}
	for i, key := range keys {
		for n := 1; n < len(key); n++ {
			p.add(key[:n], mark{offset: marks[i].offset})
		}
	}
}

// numberRules gives the keys of each rule a first part of their own, see rulePart. Rules are [[container]] tables, or
// the elements of one array.
func (p *places) numberRules(keys []Key, marks []mark) []Key {
	numbered := slices.Clone(keys)
	last := -1
	var inline []int
	for i, key := range keys {
		if key[0] != ruleTable {
			continue
		}
		if len(key) == 1 {
			p.add(key, marks[i])
			if marks[i].assigns {
				inline = marks[i].elements
				continue
			}
			last++
		}
		for last+1 < len(inline) && inline[last+1] < marks[i].offset {
			last++
			p.add(Key{rulePart(last)}, mark{offset: inline[last]})
		}
		if last >= 0 {
			numbered[i] = append(Key{rulePart(last)}, key[1:]...)
		}
	}
	return numbered
}

// keyText is the key as it is shown.
func keyText(key Key) string {
	if len(key) == 0 || !strings.HasPrefix(key[0], ruleTable+"[") {
		return key.String()
	}
	if len(key) == 1 {
		return key[0]
	}
	return key[0] + "." + key[1:].String()
}

func (p *places) add(key Key, m mark) {
	name := keyText(key)
	if _, known := p.marks[name]; !known {
		p.marks[name] = m
	}
}

// Place is where a key stands.
type Place struct {
	File         string
	Line, Column int    // from 1; 0: the file does not have the key
	Key          string // as it is shown
}

// Place finds a key.
func (p *places) Place(key Key) Place {
	place := Place{File: p.file, Key: keyText(key)}
	if m, known := p.marks[place.Key]; known {
		place.Line, place.Column = p.position(m.offset)
	}
	return place
}

// Problem is one at a key.
func (p *places) Problem(key Key, message string) Problem {
	at := p.Place(key)
	return Problem{File: at.File, Line: at.Line, Column: at.Column, Key: at.Key, Message: message}
}

// ProblemAt is one at a key as it is shown; without a line if the file does not have it.
func (p *places) ProblemAt(shown, message string) Problem {
	problem := Problem{File: p.file, Key: shown, Message: message}
	if m, known := p.marks[shown]; known {
		problem.Line, problem.Column = p.position(m.offset)
	}
	return problem
}

// elementProblem is one at element i of the array that is a key's value.
func (p *places) elementProblem(key Key, i int, message string) Problem {
	problem := p.Problem(key, message)
	if elements := p.marks[problem.Key].elements; i < len(elements) {
		problem.Line, problem.Column = p.position(elements[i])
	}
	problem.Key += "[" + strconv.Itoa(i) + "]"
	return problem
}

// offsetProblem is one at a byte of the text.
func (p *places) offsetProblem(offset int, message string) Problem {
	problem := Problem{File: p.file, Message: message}
	problem.Line, problem.Column = p.position(offset)
	return problem
}

// position counts lines, and characters in the line, from 1.
func (p *places) position(offset int) (line, column int) {
	offset = max(0, min(offset, len(p.text)))
	line = sort.SearchInts(p.lines, offset+1)
	start := p.lines[line-1]
	return line, utf8.RuneCountInString(p.text[start:offset]) + 1
}
