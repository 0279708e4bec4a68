// Package script reads the scripts of kernel tests. The documentation of sdktest.RunScripts describes the language.
package script

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// File is one script.
type File struct {
	Name  string // base name without the extension
	Cases []*Case
}

// Case is one test.
type Case struct {
	Name string
	At   string // file:line
	Options
	Lines []Line // those of "before" and "after" included
}

// Options are how a case is run.
type Options struct {
	On       string // an environment; "": a plain container
	Settings map[string]any
	Arch32   bool // the caller is one of the machine's 32-bit architecture
	Twin     Twin
	Kernel   string // the oldest with the feature; "": any that is supported
	Feature  string
}

// Twin is the container whose results a case's must equal.
type Twin string

// The words after "compare".
const (
	RealRoot      Twin = "root"          // root is the host's
	Unintercepted Twin = "unintercepted" // unprivileged, without the plugin
	Nothing       Twin = "nothing"
)

// Line is one command of the caller.
type Line struct {
	At     string // file:line, and the line where a part is used
	Text   string // as the caller takes it
	Prints bool   // the caller prints a result, which Errno is about
	Call   string // the system call that it names; "": the plugin is not asked about it
	Errno  string // "ok" or an error's name
	Kind   string // how the call was answered; "": the plugin was not asked
	Reason string // the code of the answer's reason; "": any
}

// Parse reads a script. Its name appears in errors and positions. The function read reads the files that it includes.
func Parse(name string, text []byte, read func(name string) ([]byte, error)) (*File, error) {
	p := &parser{
		read:     read,
		words:    map[string]string{},
		parts:    map[string][]source{},
		defaults: Options{Twin: RealRoot},
		file:     &File{Name: strings.TrimSuffix(path.Base(name), path.Ext(name))},
		names:    map[string]bool{},
	}
	if err := p.parse(name, text); err != nil {
		return nil, err
	}
	if len(p.file.Cases) == 0 {
		return nil, fmt.Errorf("%s: want at least one case", name)
	}
	return p.file, nil
}

// source is an indented line that is not expanded yet: what a word stands for can differ from case to case.
type source struct {
	at   string
	text string
}

// draft is a case that is not expanded yet.
type draft struct {
	source   // the words after "case"
	options  []source
	variable string   // of "for"
	values   []string // of "for"
	lines    []source
}

// parser reads a script and the files that it includes.
type parser struct {
	read     func(name string) ([]byte, error)
	words    map[string]string   // of "let"
	parts    map[string][]source // "before" and "after" included
	defaults Options
	file     *File
	names    map[string]bool // of cases

	included bool   // an included file is being read
	part     string // the part that is being read
	draft    *draft // the case that is being read
}

// parse reads one file to its end.
func (p *parser) parse(name string, text []byte) error {
	for i, line := range bytes.Split(text, []byte("\n")) {
		at := fmt.Sprintf("%s:%d", name, i+1)
		if err := p.line(source{at, string(line)}); err != nil {
			// An error in an included file or in a case names its own place.
			if !errors.As(err, new(placed)) {
				err = placed{at, err}
			}
			return err
		}
	}
	return p.end()
}

// placed is an error with the place in a script where it is.
type placed struct {
	at  string
	err error
}

func (e placed) Error() string { return e.at + ": " + e.err.Error() }
func (e placed) Unwrap() error { return e.err }

func (p *parser) line(s source) error {
	if !utf8.ValidString(s.text) {
		return errors.New(`not UTF-8: write other bytes as \xNN`)
	}
	if strings.ContainsFunc(s.text, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }) {
		return errors.New(`a control character: write it as \xNN`)
	}
	words := fields(s.text)
	switch {
	case len(words) == 0 || words[0][0] == '#':
		return nil
	case s.text[0] == '\t':
		return p.indented(words, source{s.at, strings.Join(words, " ")})
	case s.text[0] == ' ':
		return errors.New("indented with a space: indent with a tab")
	default:
		return p.directive(words, s.at)
	}
}

// fields are the words of a line.
func fields(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '\t' })
}

// directive takes a line that is not indented: a case, or something for all cases, which comes before the first.
func (p *parser) directive(words []string, at string) error {
	if words[0] == "case" {
		return p.startCase(words, at)
	}
	if p.draft != nil {
		return fmt.Errorf("%s after the first case: want case, or an indented line", words[0])
	}
	p.part = ""
	rest := strings.Join(words[1:], " ")
	switch words[0] {
	case "include":
		return p.include(words, at)
	case "let":
		return p.let(words)
	case "part":
		if len(words) != 2 || !isName(rest) {
			return errors.New("want: part NAME")
		}
		return p.startPart(rest)
	case "before", "after":
		if len(words) != 1 {
			return fmt.Errorf("want %s alone, then indented lines", words[0])
		}
		return p.startPart(words[0])
	}
	if option, ok := options[words[0]]; ok {
		rest, err := expand(rest, p.words)
		if err != nil {
			return err
		}
		return option(&p.defaults, rest)
	}
	return fmt.Errorf("unknown word %q: want case, include, let, part, before, after or an option", words[0])
}

func (p *parser) include(words []string, at string) error {
	if len(words) != 2 || strings.Contains(words[1], "/") {
		return errors.New("want: include NAME, a file in the same folder")
	}
	if p.included {
		return errors.New("an included file cannot include another")
	}
	text, err := p.read(words[1])
	if err != nil {
		return err
	}
	p.included = true
	err = p.parse(path.Join(path.Dir(at), words[1]), text)
	p.included, p.part = false, ""
	return err
}

var (
	validName     = regexp.MustCompile(`^\w[\w-]*$`) // of a part
	validVariable = regexp.MustCompile(`^\w+$`)      // of let and for
	validCase     = regexp.MustCompile(`^[\w-][\w.,:'+-]*$`)
)

// isName reports whether a part can have this name: not one that has a meaning already.
func isName(name string) bool {
	_, command := commands[name]
	_, option := options[name]
	taken := command || option || name == "for" || name == "before" || name == "after"
	return validName.MatchString(name) && !taken
}

func (p *parser) let(words []string) error {
	if len(words) < 3 || !validVariable.MatchString(words[1]) {
		return errors.New("want: let NAME WORDS")
	}
	if _, known := p.words[words[1]]; known || words[1] == "case" {
		return fmt.Errorf("$%s has a meaning already", words[1])
	}
	value, err := expand(strings.Join(words[2:], " "), p.words)
	p.words[words[1]] = value
	return err
}

func (p *parser) startPart(name string) error {
	if _, known := p.parts[name]; known {
		return fmt.Errorf("%s is there already", name)
	}
	p.part = name
	p.parts[name] = nil
	return nil
}

func (p *parser) startCase(words []string, at string) error {
	if len(words) != 2 {
		return errors.New("want: case NAME")
	}
	if p.included {
		return errors.New("an included file cannot have cases")
	}
	if err := p.end(); err != nil {
		return err
	}
	p.part = ""
	p.draft = &draft{source: source{at, words[1]}}
	return nil
}

// indented takes a line of a part or of a case.
func (p *parser) indented(words []string, s source) error {
	switch {
	case p.draft != nil:
		if done, err := p.draft.option(words, s); done || err != nil {
			return err
		}
		p.draft.lines = append(p.draft.lines, s)
	case p.part != "":
		if words[0] == p.part {
			return fmt.Errorf("%s cannot use itself", p.part)
		}
		p.parts[p.part] = append(p.parts[p.part], s)
	default:
		return errors.New("an indented line belongs to a case, a part, before or after")
	}
	_, command := commands[words[0]]
	_, part := p.parts[words[0]]
	if !command && !part {
		return fmt.Errorf("unknown word %q: want a command of the caller or a part", words[0])
	}
	return nil
}

// option takes an indented line if it is an option of the case.
func (d *draft) option(words []string, s source) (done bool, err error) {
	_, known := options[words[0]]
	if !known && words[0] != "for" {
		return false, nil
	}
	if len(d.lines) > 0 {
		return false, fmt.Errorf("%s comes before the first call of a case", words[0])
	}
	if known {
		d.options = append(d.options, s)
		return true, nil
	}
	if len(words) < 3 || d.variable != "" || !validVariable.MatchString(words[1]) || words[1] == "case" {
		return false, errors.New("want once: for NAME VALUES")
	}
	d.variable, d.values = words[1], words[2:]
	return true, nil
}

// end expands the case that has been read, once for each value of its "for".
func (p *parser) end() error {
	if p.included || p.draft == nil {
		return nil
	}
	d := p.draft
	values := d.values
	if d.variable == "" {
		values = []string{""}
	}
	if _, known := p.words[d.variable]; known {
		return placed{d.at, fmt.Errorf("for: $%s has a meaning already", d.variable)}
	}
	for _, value := range values {
		words := maps.Clone(p.words)
		if d.variable != "" {
			words[d.variable] = value
		}
		if err := p.addCase(d, words); err != nil {
			return err
		}
	}
	return nil
}

// addCase expands a case.
func (p *parser) addCase(d *draft, words map[string]string) error {
	name, err := expand(d.text, words)
	if err == nil && (!validCase.MatchString(name) || p.names[name]) {
		err = fmt.Errorf("%q is not a name of a case, or is one already", name)
	}
	if err == nil && len(d.lines) == 0 {
		err = errors.New("the case has no lines of its own: want a command of the caller or a part")
	}
	if err != nil {
		return placed{d.at, err}
	}
	p.names[name] = true
	words["case"] = name
	c := &Case{Name: name, At: d.at, Options: p.defaults}
	if err := c.setOptions(d.options, words); err != nil {
		return err
	}
	for _, part := range [][]source{p.parts["before"], d.lines, p.parts["after"]} {
		if err := p.addLines(c, part, words, ""); err != nil {
			return err
		}
	}
	p.file.Cases = append(p.file.Cases, c)
	return nil
}

// setOptions expands the options of a case and sets them.
func (c *Case) setOptions(lines []source, words map[string]string) error {
	c.Settings = maps.Clone(c.Settings)
	for _, s := range lines {
		text, err := expand(s.text, words)
		if err == nil {
			name, rest, _ := strings.Cut(text, " ")
			err = options[name](&c.Options, rest)
		}
		if err != nil {
			return placed{s.at, err}
		}
	}
	return nil
}

// addLines adds lines to a case. Those of a part say where it is used. Parts can use parts that stand before them.
func (p *parser) addLines(c *Case, lines []source, words map[string]string, use string) error {
	for _, s := range lines {
		at := s.at + use
		text, err := expand(s.text, words)
		if err != nil {
			return placed{at, err}
		}
		if part, ok := p.parts[fields(text)[0]]; ok {
			if len(fields(text)) != 1 {
				return placed{at, fmt.Errorf("%s is a part: want no more words", text)}
			}
			if err := p.addLines(c, part, words, fmt.Sprintf(" (used at %s)", at)); err != nil {
				return err
			}
			continue
		}
		line, err := parseLine(fields(text))
		if err != nil {
			return placed{at, err}
		}
		line.At = at
		c.Lines = append(c.Lines, line)
	}
	return nil
}

var reference = regexp.MustCompile(`\$(\w*)`)

// expand replaces each $NAME by what it stands for.
func expand(text string, words map[string]string) (string, error) {
	var err error
	expanded := reference.ReplaceAllStringFunc(text, func(name string) string {
		value, known := words[name[1:]]
		if !known {
			err = fmt.Errorf("%s stands for nothing: want the name of a let or for, or case", name)
		}
		return value
	})
	return expanded, err
}
