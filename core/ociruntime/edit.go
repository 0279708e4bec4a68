package ociruntime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// span is where a JSON value stands in a text.
type span struct{ start, end int }

// replaceSeccomp replaces linux.seccomp of a config.json by the JSON value; all else stays byte for byte. An error
// says that the text has no object "linux", or that runtimes could differ about which of several keys they read.
func replaceSeccomp(text, value []byte) ([]byte, error) {
	linux, err := member(text, span{0, len(text)}, "linux")
	if err != nil {
		return nil, err
	}
	if linux == nil || text[linux.start] != '{' {
		return nil, errors.New(`there is no object "linux"`)
	}
	seccomp, err := member(text, *linux, "seccomp")
	if err != nil {
		return nil, fmt.Errorf("linux: %w", err)
	}
	if seccomp != nil {
		return slices.Concat(text[:seccomp.start], value, text[seccomp.end:]), nil
	}
	inserted := slices.Concat([]byte(`"seccomp":`), value)
	after := linux.start + 1
	if bytes.TrimLeft(text[after:], " \t\r\n")[0] != '}' {
		inserted = append(inserted, ',')
	}
	return slices.Concat(text[:after], inserted, text[after:]), nil
}

// removeMount removes the mount with this index from a config.json; all but its mounts stays byte for byte.
func removeMount(text []byte, index int) ([]byte, error) {
	found, err := member(text, span{0, len(text)}, "mounts")
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, errors.New(`config.json has no list "mounts"`)
	}
	var mounts []json.RawMessage
	if err := json.Unmarshal(text[found.start:found.end], &mounts); err != nil {
		return nil, fmt.Errorf("mounts: %w", err)
	}
	rest, err := json.Marshal(slices.Delete(mounts, index, index+1))
	if err != nil {
		return nil, err
	}
	return slices.Concat(text[:found.start], rest, text[found.end:]), nil
}

// member finds the value of a key in the object that stands at the span; nil if it has none. Runtimes written in Go
// read keys in every case and the last of several, others do not: so there may be only one.
func member(text []byte, object span, key string) (*span, error) {
	decoder := json.NewDecoder(bytes.NewReader(text[object.start:object.end]))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, errors.Join(errors.New("want a JSON object"), err)
	}
	var found *span
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
		if !strings.EqualFold(name.(string), key) {
			continue
		}
		if name != key || found != nil {
			return nil, fmt.Errorf("the key %q is there twice, or in another case: which one counts depends on the runtime", key)
		}
		end := object.start + int(decoder.InputOffset())
		found = &span{end - len(value), end}
	}
	return found, nil
}
