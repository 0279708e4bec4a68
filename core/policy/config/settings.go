package config

import (
	"bytes"
	"encoding/json"

	"github.com/intercede/intercede/internal/wire"
)

// Settings are the values of a table of settings, in canonical form; what is wrong is left out.
func (d *Document) Settings(path Key, values map[string]any, declared []*wire.Setting) (map[string]json.RawMessage, Problems) {
	r := &reader{places: d.places}
	t := &table{reader: r, path: path, values: values}
	given := map[string]json.RawMessage{}
	for _, setting := range declared {
		name := setting.GetKey()
		value, ok := t.get(name)
		if !ok {
			continue
		}
		before := len(r.problems)
		r.checkSetting(t.key(name), setting, value)
		if len(r.problems) > before {
			continue
		}
		text, err := Canonical(json.RawMessage(literal(value)))
		if err != nil {
			t.fault(name, "%v", err)
			continue
		}
		given[name] = text
	}
	t.finish()
	return given, r.problems
}

// checkSetting reports each element of a list or table by itself.
func (r *reader) checkSetting(key Key, setting *wire.Setting, value any) {
	element := &wire.Setting{
		Type: wire.Setting_TYPE_STRING, Pattern: setting.GetPattern(), Example: setting.GetExample(), Help: setting.GetHelp(),
	}
	list, isList := value.([]any)
	table, isTable := value.(map[string]any)
	switch {
	case isList && setting.GetType() == wire.Setting_TYPE_STRING_LIST:
		for i, v := range list {
			if err := wire.CheckSetting(element, json.RawMessage(literal(v))); err != nil {
				r.report(r.elementProblem(key, i, err.Error()))
			}
		}
	case isTable && setting.GetType() == wire.Setting_TYPE_STRING_MAP:
		for name, v := range table {
			r.checkSetting(append(key[:len(key):len(key)], name), element, v)
		}
	default:
		if err := wire.CheckSetting(setting, json.RawMessage(literal(value))); err != nil {
			r.report(r.Problem(key, err.Error()))
		}
	}
}

// Canonical is a JSON value with the keys of its objects sorted, and without white space.
func Canonical(text json.RawMessage) (json.RawMessage, error) {
	var value any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	return json.Marshal(value)
}
