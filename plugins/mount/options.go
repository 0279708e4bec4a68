package mount

import (
	"fmt"
	"strings"
)

// option is one of a filesystem's, as fsconfig(2) takes it: a flag, or a key with a value.
type option struct {
	key   string
	value string
	set   bool // it has a value, which may be empty
}

func (o option) String() string {
	if o.set {
		return o.key + "=" + o.value
	}
	return o.key
}

// parseOptions splits the data of mount(2) as the kernel does (vfs_parse_monolithic_sep, fs/fs_context.c).
func parseOptions(data string) []option {
	var options []option
	for _, text := range strings.Split(data, ",") {
		key, value, set := strings.Cut(text, "=")
		if key == "" {
			continue
		}
		options = append(options, option{key, value, set})
	}
	return options
}

// joinOptions is the data that parseOptions splits.
func joinOptions(options []option) string {
	texts := make([]string, len(options))
	for i, o := range options {
		texts[i] = o.String()
	}
	return strings.Join(texts, ",")
}

// isReadOnly reports whether a superblock with these options is read-only. The last word counts, and values do not
// (vfs_parse_sb_flag).
func isReadOnly(options []option) bool {
	readOnly := false
	for _, o := range options {
		switch o.key {
		case "ro":
			readOnly = true
		case "rw":
			readOnly = false
		}
	}
	return readOnly
}

func hasKey(options []option, keys ...string) bool {
	for _, o := range options {
		for _, key := range keys {
			if o.key == key {
				return true
			}
		}
	}
	return false
}

// verdict is what becomes of an option.
type verdict uint8

const (
	harmless verdict = iota
	refused          // it reaches beyond the filesystem's own device, or harms the host
	unknown          // not in the table of a filesystem that has one
)

// vet judges one option.
func (f *filesystem) vet(o option) verdict {
	switch {
	case f.refused[o.key], o.value != "" && f.refusedValues[o.key] == o.value:
		return refused
	case genericOptions[o.key], f.harmless[o.key]:
		return harmless
	case f.listed:
		return unknown
	default:
		return refused
	}
}

// refusal is why an option is refused, for the log.
func (f *filesystem) refusal(o option) string {
	return fmt.Sprintf("option %q of %s is refused: it may name another device, path or descriptor, or harm the host", o, f.name)
}
