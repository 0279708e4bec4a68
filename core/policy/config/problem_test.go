package config

import (
	"encoding/json"
	"testing"

	"golang.org/x/sys/unix"
)

func TestProblemJSON(t *testing.T) {
	_, problems := Parse("[broker]\nlog_level = \"infos\"\n", "config.toml", Options{})
	text, err := json.Marshal(problems)
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"file":"config.toml","line":2,"column":1,"key":"broker.log_level","message":"unknown value \"infos\"",` +
		`"accepted":["trace","debug","info","warn","error"],"suggestion":"info"}]`
	if string(text) != want {
		t.Errorf("%s\nwant %s", text, want)
	}
}

func TestProblemsError(t *testing.T) {
	err := Problems{{File: "f", Message: "one"}, {File: "f", Line: 2, Column: 3, Key: "k", Message: "two", Accepted: []string{"x", "y"}}}
	if got, want := err.Error(), "f: one\nf:2:3: k: two; accepted: x, y"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestNearest(t *testing.T) {
	accepted := []string{"devices", "device_map", "x", "EPERM"}
	for word, want := range map[string]string{
		"device":  "devices",
		"DEVICES": "devices",
		"devcies": "devices",
		"eprm":    "EPERM",
		"y":       "x",
		"loads":   "",
		"":        "x",
	} {
		t.Run(word, func(t *testing.T) {
			if got := Nearest(word, accepted); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func TestParseErrno(t *testing.T) {
	for name, want := range map[string]unix.Errno{
		"EPERM": unix.EPERM, "EAGAIN": unix.EAGAIN, "EWOULDBLOCK": unix.EAGAIN, "ENOTSUP": unix.EOPNOTSUPP,
		"EHWPOISON": unix.EHWPOISON, "": 0, "eperm": 0, "1": 0, "ERESTARTSYS": 0,
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := parseErrno(name); got != want || ok != (want != 0) {
				t.Errorf("%d, %v; want %d", got, ok, want)
			}
		})
	}
	for errno := unix.Errno(1); errno < 4096; errno++ {
		if name := unix.ErrnoName(errno); name != "" {
			if got, ok := parseErrno(name); !ok || got != errno {
				t.Errorf("parseErrno(%q) = %d, %v; want %d", name, got, ok, errno)
			}
		}
	}
}
