package script_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest/internal/script"
)

// noFile is for scripts that include nothing.
func noFile(name string) ([]byte, error) { return nil, fmt.Errorf("%s is not there", name) }

// show writes what a script was read as.
func show(f *script.File) string {
	var b strings.Builder
	for _, c := range f.Cases {
		fmt.Fprintf(&b, "%s:", c.Name)
		if c.On != "" {
			fmt.Fprintf(&b, " on %s", c.On)
		}
		for _, key := range slices.Sorted(maps.Keys(c.Settings)) {
			fmt.Fprintf(&b, " %s=%v", key, c.Settings[key])
		}
		if c.Arch32 {
			b.WriteString(" 32")
		}
		if c.Twin != script.RealRoot {
			fmt.Fprintf(&b, " compare %s", c.Twin)
		}
		if c.Kernel != "" {
			fmt.Fprintf(&b, " since %s: %s", c.Kernel, c.Feature)
		}
		b.WriteString("\n")
		for _, l := range c.Lines {
			fmt.Fprintf(&b, "%s|%s|%s %s", strings.ReplaceAll(l.At, "t.script", ""), l.Text, l.Errno, l.Kind)
			if l.Reason != "" {
				b.WriteString(" " + l.Reason)
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

func TestParse(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"lines": {`
# A comment.
case one
	# Another.
	mkdir  d
	sys mknod s:d/n	S_IFCHR 0   = EPERM errno
	stat d/n = ENOENT
	fd fsopen s:ext4 0 = ok addfd
	sys mknod s:n S_IFCHR 0 = EPERM next device_not_listed
	mount tmpfs none d 0 - = ok continue

case two
	thread
`, `one:
:5|mkdir d|ok 
:6|sys mknod s:d/n S_IFCHR 0|EPERM errno
:7|stat d/n|ENOENT 
:8|fd fsopen s:ext4 0|ok addfd
:9|sys mknod s:n S_IFCHR 0|EPERM next device_not_listed
:10|mount tmpfs none d 0 -|ok continue
two:
:13|thread|ok 
`},
		"options": {`
on disk
abi 32
setting devices ["c 1:3", "b 7:0"]
setting level 3
case one
	thread
case two
	on other
	abi 64
	compare unintercepted
	setting level 4
	thread
case three
	compare nothing
	kernel 6.10 duplicate query
	thread
`, `one: on disk devices=[c 1:3 b 7:0] level=3 32
:7|thread|ok 
two: on other devices=[c 1:3 b 7:0] level=4 compare unintercepted
:13|thread|ok 
three: on disk devices=[c 1:3 b 7:0] level=3 32 compare nothing since 6.10: duplicate query
:17|thread|ok 
`},
		"escapes": {`
case one
	stat \xff\n\\\x24d = ENOENT
`, "one:\n:3|stat \xff\n\\$d|ENOENT \n"},
		"parts": {`
let null S_IFCHR|0666 dev:1:3
before
	umask 0
part user
	setgid 7
	setuid 8
part make
	user
	sys mknod s:$case $null = ok value
after
	stat $case = ok
case one
	make
case two
	thread
`, `one:
:4|umask 0|ok 
:6 (used at :9 (used at :14))|setgid 7|ok 
:7 (used at :9 (used at :14))|setuid 8|ok 
:10 (used at :14)|sys mknod s:one S_IFCHR|0666 dev:1:3|ok value
:12|stat one|ok 
two:
:4|umask 0|ok 
:16|thread|ok 
:12|stat two|ok 
`},
		"expanded options": {`
let list ["b 7:0"]
setting devices $list
case $disk
	on $disk
	for disk ext2 ext4
	setting name "$case"
	thread
case last
	thread
`, `ext2: on ext2 devices=[b 7:0] name=ext2
:8|thread|ok 
ext4: on ext4 devices=[b 7:0] name=ext4
:8|thread|ok 
last: devices=[b 7:0]
:10|thread|ok 
`},
		"for": {`
case mknod-$d
	for d 1:3 5:0
	sys mknod s:n S_IFCHR dev:$d = ok
case last
	thread
`, `mknod-1:3:
:4|sys mknod s:n S_IFCHR dev:1:3|ok 
mknod-5:0:
:4|sys mknod s:n S_IFCHR dev:5:0|ok 
last:
:6|thread|ok 
`},
	} {
		t.Run(name, func(t *testing.T) {
			file, err := script.Parse("t.script", []byte(test.text), noFile)
			if err != nil {
				t.Fatal(err)
			}
			if got := show(file); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

func TestInclude(t *testing.T) {
	files := map[string]string{
		"good":   "let null dev:1:3\npart user\n\tsetuid 8\non disk\n",
		"bad":    "\nlet null\n",
		"case":   "case one\n\tthread\n",
		"nested": "include good\n",
	}
	read := func(name string) ([]byte, error) {
		if text, ok := files[name]; ok {
			return []byte(text), nil
		}
		return nil, errors.New("no such file")
	}
	file, err := script.Parse("d/t.script", []byte("include good\ncase one\n\tuser\n\tstat $null = ok"), read)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := show(file), "one: on disk\nd/good:3 (used at d/:3)|setuid 8|ok \nd/:4|stat dev:1:3|ok \n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for name, want := range map[string]string{
		"bad":    "d/bad:2: want: let NAME WORDS",
		"case":   "d/case:1: an included file cannot have cases",
		"nested": "d/nested:1: an included file cannot include another",
		"none":   "d/t.script:1: no such file",
		"../x":   "d/t.script:1: want: include NAME, a file in the same folder",
	} {
		if _, err := script.Parse("d/t.script", []byte("include "+name), read); err == nil || err.Error() != want {
			t.Errorf("include %s: %v, want %s", name, err, want)
		}
	}
}

// TestErrors has mistakes, each with the line where it is found.
func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "t.script: want at least one case",
		"# Nothing.":                      "t.script: want at least one case",
		"frobnicate":                      `t.script:1: unknown word "frobnicate": want case, include, let, part, before, after or an option`,
		"\tthread":                        "t.script:1: an indented line belongs to a case, a part, before or after",
		"case":                            "t.script:1: want: case NAME",
		"case a b":                        "t.script:1: want: case NAME",
		"case a/b":                        `t.script:1: "a/b" is not a name of a case, or is one already`,
		"case a\n\ton x\n\ncase b":        "t.script:1: the case has no lines of its own: want a command of the caller or a part",
		"after\n\tfork\ncase a":           "t.script:3: the case has no lines of its own: want a command of the caller or a part",
		"case a\n\ton $d\n\tthread":       "t.script:2: $d stands for nothing: want the name of a let or for, or case",
		"case a\n\tabi 16\n\tthread":      "t.script:2: abi 16: want 32 or 64",
		"on $d":                           "t.script:1: $d stands for nothing: want the name of a let or for, or case",
		"case a\n\tfork\ncase a":          `t.script:3: "a" is not a name of a case, or is one already`,
		"case a\non disk":                 "t.script:2: on after the first case: want case, or an indented line",
		"case a\n thread":                 "t.script:2: indented with a space: indent with a tab",
		"case a\n\tfrobnicate":            `t.script:2: unknown word "frobnicate": want a command of the caller or a part`,
		"case a\n\trepeat 3":              `t.script:2: unknown word "repeat": want a command of the caller or a part`,
		"case a\n\tmkdir":                 "t.script:2: mkdir: unknown command, or too few words",
		"case a\n\tstat f":                "t.script:2: want a result: COMMAND = ERRNO KIND",
		"case a\n\tstat f = ":             "t.script:2: want after =: ERRNO, ERRNO KIND, or ERRNO KIND REASON",
		"case a\n\tstat f = ok value 0 1": "t.script:2: want after =: ERRNO, ERRNO KIND, or ERRNO KIND REASON",
		"case a\n\tstat f = EFOO":         "t.script:2: EFOO: want ok or the name of an error",
		"case a\n\tstat f = ok value":     "t.script:2: only a call is answered by the plugin: want no kind",
		"case a\n\tsys dup 0 = ok v":      "t.script:2: v: want one of value, errno, continue, next, addfd, failure",
		"case a\n\tsys dup 0 = ok errno":  "t.script:2: ok does not go with errno",
		"case a\n\tsys dup 0 = EIO addfd": "t.script:2: EIO does not go with addfd",
		"case a\n\tmkdir d = ok":          "t.script:2: the command must succeed: want no result, or = ok KIND",
		"case a\n\tdo dup 0 = EIO errno":  "t.script:2: the command must succeed: want no result, or = ok KIND",
		"case a\n\tchdir $d":              "t.script:2: $d stands for nothing: want the name of a let or for, or case",
		"case a\n\tchdir $":               "t.script:2: $ stands for nothing: want the name of a let or for, or case",
		"case a\n\tchdir \\q":             `t.script:2: \q: want Go's escapes, and neither a space nor a NUL`,
		"case a\n\tchdir \\x20":           `t.script:2: \x20: want Go's escapes, and neither a space nor a NUL`,
		"case a\n\tchdir \\x00":           `t.script:2: \x00: want Go's escapes, and neither a space nor a NUL`,
		"case a\n\tchdir \xff":            `t.script:2: not UTF-8: write other bytes as \xNN`,
		"case a\n\tchdir a\r":             `t.script:2: a control character: write it as \xNN`,
		"case a\n\tthread\n\tabi 32":      "t.script:3: abi comes before the first call of a case",
		"case a\n\tfor d":                 "t.script:2: want once: for NAME VALUES",
		"case a\n\tfor case 1":            "t.script:2: want once: for NAME VALUES",
		"case a\n\tfor d 1\n\tfor e 2":    "t.script:3: want once: for NAME VALUES",
		"case a\n\tfor d 1 2\n\tfork":     `t.script:1: "a" is not a name of a case, or is one already`,
		"let d 1\ncase a\n\tfor d 1":      "t.script:2: for: $d has a meaning already",
		"abi 16":                          "t.script:1: abi 16: want 32 or 64",
		"on":                              "t.script:1: want: on ENVIRONMENT",
		"compare host":                    "t.script:1: compare host: want root, unintercepted or nothing",
		"kernel 6.10":                     "t.script:1: want: kernel VERSION FEATURE, with a version such as 6.10",
		"kernel 6 x":                      "t.script:1: want: kernel VERSION FEATURE, with a version such as 6.10",
		"setting a":                       "t.script:1: want: setting KEY VALUE, with a value in JSON: unexpected end of JSON input",
		"let a":                           "t.script:1: want: let NAME WORDS",
		"let a $case":                     "t.script:1: $case stands for nothing: want the name of a let or for, or case",
		"let a-b c":                       "t.script:1: want: let NAME WORDS",
		"let a 1\nlet a 2":                "t.script:2: $a has a meaning already",
		"let case 1":                      "t.script:1: $case has a meaning already",
		"part":                            "t.script:1: want: part NAME",
		"part stat":                       "t.script:1: want: part NAME",
		"part before":                     "t.script:1: want: part NAME",
		"part a\npart a":                  "t.script:2: a is there already",
		"part a\n\ta":                     "t.script:2: a cannot use itself",
		"part a\n\tb\npart b":             `t.script:2: unknown word "b": want a command of the caller or a part`,
		"part a\n\tstat f\ncase b\n\ta":   "t.script:2 (used at t.script:4): want a result: COMMAND = ERRNO KIND",
		"part a\n\tthread\ncase b\n\ta 1": "t.script:4: a 1 is a part: want no more words",
		"before now":                      "t.script:1: want before alone, then indented lines",
	} {
		if _, err := script.Parse("t.script", []byte(text), noFile); err == nil || err.Error() != want {
			t.Errorf("%q:\ngot  %v\nwant %s", text, err, want)
		}
	}
}

// FuzzParseScript reads anything: a script that is accepted has nothing in it that the caller could not be given.
func FuzzParseScript(f *testing.F) {
	for _, text := range []string{
		"case a\n\tsys mknod s:n S_IFCHR|0666 dev:1:3 = ok value\n\tstat n = ok\n",
		"on x\nabi 32\nsetting k [1]\ncompare nothing\nlet n s:$n\nbefore\n\tthread\ncase a-$d\n\tfor d 1 2\n\tchdir \\xff\n",
		"part p\n\tfork\npart q\n\tp\nafter\n\tq\ncase a\n\tq\n",
		"include x\n", "case a\n\tsetting k {", "\t", "\\",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, err := script.Parse("t.script", []byte(text), noFile)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "t.script") {
				t.Errorf("%v names no place", err)
			}
			return
		}
		names := map[string]bool{}
		for _, c := range file.Cases {
			if names[c.Name] || strings.ContainsAny(c.Name, "/ \x00") {
				t.Errorf("case %q", c.Name)
			}
			names[c.Name] = true
			for _, l := range c.Lines {
				if strings.Contains(l.Text, "\x00") || l.Errno == "" || l.At == "" || !l.Prints && l.Errno != "ok" {
					t.Errorf("%+v", l)
				}
			}
		}
	})
}
