package oci

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestReadStateRefuses(t *testing.T) {
	with := func(change func(*specs.ContainerProcessState)) string {
		state := exampleState(specs.SeccompFdName)
		change(&state)
		return encode(t, state)
	}
	for name, c := range map[string]struct {
		data string
		want error
	}{
		"nothing":             {"", io.EOF},
		"white space":         {" \n", io.EOF},
		"half":                {`{"ociVersion":"1.0`, io.ErrUnexpectedEOF},
		"no object":           {`["seccompFd"] `, ErrMessage},
		"null":                {`null `, ErrMessage},
		"empty object":        {`{}`, ErrMessage},
		"NUL bytes":           {"\x00\x00\x00\x00", ErrMessage},
		"wrong type":          {`{"pid":"12"}`, ErrMessage},
		"long number as text": {`{"fds":[` + strings.Repeat("1", 100_000) + `]}`, ErrMessage},
		"deep nesting":        {strings.Repeat(`{"x":[`, 100_000), ErrMessage},
		"deep nesting inside": {`{"x":` + strings.Repeat(`[`, 9000) + strings.Repeat(`]`, 9000) + `}`, ErrMessage},
		"endless space":       {strings.Repeat(" ", MaxMessage+1), ErrMessage},
		"beyond the cap":      {`{"metadata":"` + strings.Repeat("x", MaxMessage), ErrMessage},
		"no ID":               {with(func(s *specs.ContainerProcessState) { s.State.ID = "" }), ErrMessage},
		"long ID":             {with(func(s *specs.ContainerProcessState) { s.State.ID = strings.Repeat("é", maxID) }), ErrMessage},
		"NUL in ID":           {with(func(s *specs.ContainerProcessState) { s.State.ID = "a\x00b" }), ErrMessage},
		"newline in ID":       {with(func(s *specs.ContainerProcessState) { s.State.ID = "a\nb" }), ErrMessage},
		"bidi override in ID": {with(func(s *specs.ContainerProcessState) { s.State.ID = "a\u202eb" }), ErrMessage},
		"invalid UTF-8 in ID": {strings.Replace(message(t, specs.SeccompFdName), "web", "w\xffb", 1), ErrMessage},
		"lone surrogate":      {strings.Replace(message(t, specs.SeccompFdName), "web", `w\ud800b`, 1), ErrMessage},
		"negative pid":        {with(func(s *specs.ContainerProcessState) { s.Pid = -1 }), ErrMessage},
		"huge pid":            {with(func(s *specs.ContainerProcessState) { s.Pid = 1 << 31 }), ErrMessage},
		"negative state.pid":  {with(func(s *specs.ContainerProcessState) { s.State.Pid = -1 }), ErrMessage},
		"no descriptor names": {with(func(s *specs.ContainerProcessState) { s.Fds = nil }), ErrMessage},
		"other names only":    {with(func(s *specs.ContainerProcessState) { s.Fds = []string{"pidFd"} }), ErrMessage},
		"named twice":         {message(t, specs.SeccompFdName, specs.SeccompFdName), ErrMessage},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := readState(strings.NewReader(c.data))
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if text := err.Error(); len(text) > 600 || strings.ContainsFunc(text, unprintable) {
				t.Errorf("error unfit for a log: %q", text)
			}
		})
	}
}

func TestReadStateAccepts(t *testing.T) {
	ours := message(t, specs.SeccompFdName)
	for name, data := range map[string]string{
		"no versions":        `{"fds":["seccompFd"],"pid":1,"state":{"id":"web","pid":1}}`,
		"pids not said":      `{"fds":["seccompFd"],"pid":0,"state":{"id":"web"}}`,
		"unknown keys":       `{"future":{"a":[1,2]},` + ours[1:],
		"duplicate keys":     `{"fds":["a","b"],"state":{"id":"other"},` + ours[1:],
		"exactly at the cap": strings.Repeat(" ", MaxMessage-len(ours)) + ours,
	} {
		t.Run(name, func(t *testing.T) {
			state, rest, err := readState(strings.NewReader(data))
			must(t, err)
			if state.State.ID != "web" || len(state.Fds) != 1 || len(rest) != 0 {
				t.Errorf("%+v, rest %q", state, rest)
			}
		})
	}
}

func TestRuntimesPIDs(t *testing.T) {
	for name, want := range map[string][2]int{
		"runc-1.1.5-run":  {10422, 10422},
		"runc-1.1.5-exec": {10438, 10422},
		"crun-1.8.1-run":  {10492, 10492},
		"crun-1.8.1-exec": {0, 0},
	} {
		data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		must(t, err)
		state, rest, err := readState(bytes.NewReader(data))
		must(t, err)
		must(t, checkTrailing(rest))
		if got := [2]int{state.Pid, state.State.Pid}; got != want {
			t.Errorf("%s: pids %v, want %v", name, got, want)
		}
	}
}

// FuzzReadState checks that chunking does not matter, that no prefix of a message is another message, and that a state
// that is accepted is accepted again, unchanged, when Send's encoding is read.
func FuzzReadState(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("no messages in testdata: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, uint(len(data)/2))
		f.Add(append(data, data...), uint(1))
	}
	for _, text := range []string{"", "null", "12", `{"fds":["seccompFd"],"state":{"id":"x"}}x`, `{"FDS":["seccompFd"],"state":{"ID":"é"}}`} {
		f.Add([]byte(text), uint(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, cut uint) {
		whole := parse(bytes.NewReader(data))
		chunked := parse(iotest.OneByteReader(bytes.NewReader(data)))
		if !whole.same(chunked) {
			t.Fatalf("whole %+v, byte by byte %+v", whole, chunked)
		}
		requirePrefixes(t, data, cut, whole)
		if whole.err == nil {
			requireStable(t, whole.state)
		}
	})
}

// parsed is what became of some bytes.
type parsed struct {
	state specs.ContainerProcessState
	rest  int
	err   error
}

func parse(r io.Reader) parsed {
	state, rest, err := readState(r)
	unread, _ := io.Copy(io.Discard, r)
	return parsed{state, len(rest) + int(unread), err}
}

// same compares the states and how much is left behind them, or the errors.
func (p parsed) same(other parsed) bool {
	if p.err != nil || other.err != nil {
		return p.err != nil && other.err != nil && p.err.Error() == other.err.Error()
	}
	return p.rest == other.rest && reflect.DeepEqual(p.state, other.state)
}

func requirePrefixes(t *testing.T, data []byte, cut uint, whole parsed) {
	t.Helper()
	cut %= uint(len(data) + 1)
	prefix := parse(bytes.NewReader(data[:cut]))
	incomplete := errors.Is(prefix.err, io.EOF) || errors.Is(prefix.err, io.ErrUnexpectedEOF)
	inside := int(cut) < len(data)-whole.rest
	switch {
	case prefix.err == nil && !reflect.DeepEqual(prefix.state, whole.state):
		t.Fatalf("prefix %q is another message", data[:cut])
	case whole.err == nil && inside && !incomplete:
		t.Fatalf("prefix %q of a message: %v", data[:cut], prefix.err)
	case whole.err == nil && !inside && prefix.err != nil:
		t.Fatalf("prefix %q holds the whole message: %v", data[:cut], prefix.err)
	}
}

func requireStable(t *testing.T, state specs.ContainerProcessState) {
	t.Helper()
	if len(state.State.Annotations) == 0 {
		state.State.Annotations = nil
	}
	encoded := encode(t, state)
	if len(encoded) > MaxMessage {
		return
	}
	again := parse(strings.NewReader(encoded))
	if again.err != nil || !reflect.DeepEqual(again.state, state) {
		t.Fatalf("%+v, encoded and read again: %+v", state, again)
	}
}
