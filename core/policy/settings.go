package policy

import (
	"bytes"
	"encoding/json"

	"github.com/BurntSushi/toml"
	"github.com/intercede/intercede/internal/wire"
)

// settings are the values of a table of settings, in canonical form; what is wrong is reported and left out.
func (d *document) settings(path toml.Key, values map[string]any, declared []*wire.Setting) map[string]json.RawMessage {
	t := &table{doc: d, path: path, values: values}
	given := map[string]json.RawMessage{}
	for _, setting := range declared {
		name := setting.GetKey()
		value, ok := t.get(name)
		if !ok {
			continue
		}
		before := len(d.problems)
		d.checkSetting(t.key(name), setting, value)
		if len(d.problems) > before {
			continue
		}
		text, err := canonical(json.RawMessage(literal(value)))
		if err != nil {
			t.fault(name, "%v", err)
			continue
		}
		given[name] = text
	}
	t.finish()
	return given
}

// checkSetting reports each element of a list or table by itself.
func (d *document) checkSetting(key toml.Key, setting *wire.Setting, value any) {
	element := &wire.Setting{Type: wire.Setting_TYPE_STRING, Pattern: setting.GetPattern(), Example: setting.GetExample()}
	list, isList := value.([]any)
	table, isTable := value.(map[string]any)
	switch {
	case isList && setting.GetType() == wire.Setting_TYPE_STRING_LIST:
		for i, v := range list {
			if err := wire.CheckSetting(element, json.RawMessage(literal(v))); err != nil {
				d.report(d.elementProblem(key, i, err.Error()))
			}
		}
	case isTable && setting.GetType() == wire.Setting_TYPE_STRING_MAP:
		for name, v := range table {
			d.checkSetting(append(key[:len(key):len(key)], name), element, v)
		}
	default:
		if err := wire.CheckSetting(setting, json.RawMessage(literal(value))); err != nil {
			d.report(d.problem(key, err.Error()))
		}
	}
}

// canonical is a JSON value with the keys of its objects sorted, and without white space.
func canonical(text json.RawMessage) (json.RawMessage, error) {
	var value any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	return json.Marshal(value)
}
