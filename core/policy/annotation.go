package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/wire"
)

// maxAnnotation bounds the value of an annotation that is taken, in bytes.
const maxAnnotation = 4096

// apply changes the plugin's switch or setting, unless the value is not acceptable.
func apply(a config.Annotation, p *PluginState, text string, origin Origin) error {
	value, err := parse(a.Type, text)
	if err != nil {
		return err
	}
	if a.Setting == "" {
		p.Enabled, p.Origin = value.(bool), origin
		return nil
	}
	canonical, err := json.Marshal(value) // that of bools, strings, lists and maps is
	if err != nil {
		return err
	}
	if err := wire.CheckSetting(p.declared[a.Setting], canonical); err != nil {
		return errors.New(firstFault(err.Error()))
	}
	if p.withoutAnnotations == nil {
		p.withoutAnnotations = slices.Clone(p.Settings)
	}
	*p.setting(a.Setting) = SettingState{a.Setting, canonical, origin}
	for _, from := range a.Moves {
		moved := value.(map[string]string)
		p.takeOut(from, origin, func(name string) bool { _, is := moved[name]; return is })
	}
	for _, from := range a.Keeps {
		kept := value.([]string)
		p.takeOut(from, origin, func(name string) bool { return !slices.Contains(kept, name) })
	}
	return nil
}

// takeOut takes names out of another setting, a list or the keys of a table.
func (p *PluginState) takeOut(key string, origin Origin, isOut func(name string) bool) {
	if p.declared[key] == nil {
		return
	}
	s := p.setting(key)
	var list []string
	var table map[string]string
	var left any
	if json.Unmarshal(s.Value, &list) == nil {
		left = slices.DeleteFunc(list, isOut)
	} else if json.Unmarshal(s.Value, &table) == nil {
		maps.DeleteFunc(table, func(name, _ string) bool { return isOut(name) })
		left = table
	}
	if canonical, err := json.Marshal(left); err == nil && string(canonical) != string(s.Value) {
		if s.Origin.Annotation == "" {
			s.Origin = origin
		}
		s.Value = canonical
	}
}

// parse reads a value of an annotation. A bool is true, 1, yes or on; false, 0, no or off, in any case; a list is
// "ext4,btrfs", a map "ext4=fuse2fs,ntfs=ntfs-3g".
func parse(kind wire.Setting_Type, text string) (any, error) {
	switch {
	case len(text) > maxAnnotation:
		return nil, fmt.Errorf("%d bytes: it may have %d", len(text), maxAnnotation)
	case !utf8.ValidString(text):
		return nil, fmt.Errorf("%s: not UTF-8", shorten(text))
	case kind == wire.Setting_TYPE_BOOL:
		return parseBool(text)
	case kind == wire.Setting_TYPE_STRING_LIST:
		return parseList(text)
	default:
		return parseMap(text)
	}
}

// firstFault is the first line of what is wrong with a value, at a bounded length.
func firstFault(message string) string {
	line, _, _ := strings.Cut(message, "\n")
	if len(line) > 4*maxShown {
		line = strings.ToValidUTF8(line[:4*maxShown], "") + "..."
	}
	return line
}

func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true", "1", "yes", "on":
		return true, nil
	case "false", "0", "no", "off":
		return false, nil
	}
	return false, fmt.Errorf("%s: want true or false", shorten(text))
}

// parseList reads "ext4,btrfs". What is there twice counts once.
func parseList(text string) ([]string, error) {
	words := []string{}
	for word := range strings.SplitSeq(text, ",") {
		word = strings.TrimSpace(word)
		if word == "" {
			return nil, fmt.Errorf(`%s: want names with commas between them, such as "ext4,btrfs"`, shorten(text))
		}
		if !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return words, nil
}

// parseMap reads "ext4=fuse2fs,ntfs=ntfs-3g".
func parseMap(text string) (map[string]string, error) {
	words, err := parseList(text)
	if err != nil {
		return nil, err
	}
	table := map[string]string{}
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		if key == "" || value == "" || strings.Contains(value, "=") {
			return nil, fmt.Errorf(`%s: want pairs with commas between them, such as "ext4=fuse2fs"`, shorten(word))
		}
		if _, twice := table[key]; twice {
			return nil, fmt.Errorf("%s is there twice", shorten(key))
		}
		table[key] = value
	}
	return table, nil
}

var errNotAccepted = errors.New("no rule that matches accepts it")
