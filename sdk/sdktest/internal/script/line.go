package script

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// options are what a case, or a file for all its cases, can say of how it is run.
var options = map[string]func(o *Options, rest string) error{
	"on":      (*Options).setOn,
	"setting": (*Options).setSetting,
	"abi":     (*Options).setABI,
	"compare": (*Options).setTwin,
	"kernel":  (*Options).setKernel,
}

func (o *Options) setOn(rest string) error {
	if rest == "" || strings.Contains(rest, " ") {
		return errors.New("want: on ENVIRONMENT")
	}
	o.On = rest
	return nil
}

func (o *Options) setSetting(rest string) error {
	key, text, _ := strings.Cut(rest, " ")
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		return fmt.Errorf("want: setting KEY VALUE, with a value in JSON: %w", err)
	}
	if o.Settings == nil {
		o.Settings = map[string]any{}
	}
	o.Settings[key] = value
	return nil
}

func (o *Options) setABI(rest string) error {
	if rest != "32" && rest != "64" {
		return fmt.Errorf("abi %s: want 32 or 64", rest)
	}
	o.Arch32 = rest == "32"
	return nil
}

func (o *Options) setTwin(rest string) error {
	o.Twin = Twin(rest)
	if !slices.Contains([]Twin{RealRoot, Unintercepted, Nothing}, o.Twin) {
		return fmt.Errorf("compare %s: want %s, %s or %s", rest, RealRoot, Unintercepted, Nothing)
	}
	return nil
}

func (o *Options) setKernel(rest string) error {
	version, feature, _ := strings.Cut(rest, " ")
	if !kernelVersion.MatchString(version) || feature == "" {
		return errors.New("want: kernel VERSION FEATURE, with a version such as 6.10")
	}
	o.Kernel, o.Feature = version, feature
	return nil
}

var kernelVersion = regexp.MustCompile(`^[0-9]+\.[0-9]+$`)

// command is what is to be known of a command of the caller.
type command struct {
	words  int  // at least
	prints bool // its result, which a script must expect
}

// commands are those of testdata/caller.c, without those for races, and those whose results are several lines.
var commands = map[string]command{
	"sys": {2, true}, "stat": {2, true}, "openfile": {3, true},
	"do": {2, false}, "fd": {2, false}, "open": {3, false}, "write": {3, false}, "umask": {2, false}, "chdir": {2, false},
	"chroot": {2, false}, "mkdir": {2, false}, "mount": {6, false}, "setuid": {2, false}, "setgid": {2, false},
	"setgroups": {2, false}, "dropcap": {2, false}, "unshare": {2, false}, "thread": {1, false}, "leader-exits": {1, false},
	"fork": {1, false},
}

// kinds are those of sdktest.Kind that a call can be expected to be answered by.
var kinds = []string{"value", "errno", "continue", "next", "addfd", "failure"}

// errnos are the names that can be expected.
var errnos = func() map[string]bool {
	names := map[string]bool{"ok": true}
	for i := range syscall.Errno(200) {
		names[unix.ErrnoName(i)] = true
	}
	delete(names, "")
	return names
}()

// parseLine reads a command and what is expected of it: COMMAND = ERRNO KIND REASON.
func parseLine(words []string) (Line, error) {
	var expected []string
	sign := slices.Index(words, "=")
	if sign >= 0 {
		words, expected = words[:sign], words[sign+1:]
		if len(expected) == 0 || len(expected) > 3 {
			return Line{}, errors.New("want after =: ERRNO, ERRNO KIND, or ERRNO KIND REASON")
		}
	}
	known, ok := commands[words0(words)]
	if !ok || len(words) < known.words {
		return Line{}, fmt.Errorf("%s: unknown command, or too few words", strings.Join(words, " "))
	}
	text, err := unescape(words)
	if err != nil {
		return Line{}, err
	}
	line := Line{Text: text, Prints: known.prints, Call: callOf(words)}
	return line, line.expect(expected)
}

func words0(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

// unescape interprets backslashes as Go does in a string. A command's words are separated by spaces, so that none can
// have one.
func unescape(words []string) (string, error) {
	var all []string
	for _, w := range words {
		if strings.Contains(w, `\`) {
			text, err := strconv.Unquote(`"` + w + `"`)
			if err != nil || strings.ContainsAny(text, " \x00") {
				return "", fmt.Errorf("%s: want Go's escapes, and neither a space nor a NUL", w)
			}
			w = text
		}
		all = append(all, w)
	}
	return strings.Join(all, " "), nil
}

// callOf is the system call that a command names.
func callOf(words []string) string {
	switch words[0] {
	case "sys", "do", "fd":
		return words[1]
	case "mount":
		return "mount"
	default:
		return ""
	}
}

// expect sets what is expected of the line.
func (l *Line) expect(expected []string) error {
	switch {
	case l.Prints && len(expected) == 0:
		return errors.New("want a result: COMMAND = ERRNO KIND")
	case !l.Prints && len(expected) == 0:
		l.Errno = "ok"
		return nil
	case !errnos[expected[0]]:
		return fmt.Errorf("%s: want ok or the name of an error", expected[0])
	case !l.Prints && (len(expected) == 1 || expected[0] != "ok"):
		return errors.New("the command must succeed: want no result, or = ok KIND")
	}
	l.Errno = expected[0]
	if len(expected) == 1 {
		return nil
	}
	l.Kind = expected[1]
	switch failed := l.Errno != "ok"; {
	case !slices.Contains(kinds, l.Kind):
		return fmt.Errorf("%s: want one of %s", l.Kind, strings.Join(kinds, ", "))
	case l.Call == "":
		return errors.New("only a call is answered by the plugin: want no kind")
	case failed && (l.Kind == "value" || l.Kind == "addfd"), !failed && l.Kind == "errno":
		return fmt.Errorf("%s does not go with %s", l.Errno, l.Kind)
	}
	if len(expected) == 3 {
		l.Reason = expected[2]
	}
	return nil
}
