package policy

import (
	"bytes"
	"encoding/json"

	"github.com/BurntSushi/toml"
	"github.com/intercede/intercede/sdk/proto"
)

// settings are the values of [plugins.NAME.config], or else the defaults, as a JSON object; what is wrong is reported.
func (d *document) settings(path toml.Key, values map[string]any, declared []*proto.Setting) string {
	before := len(d.problems)
	t := &table{doc: d, path: path, values: values}
	members := map[string]json.RawMessage{}
	for _, setting := range declared {
		name := setting.GetKey()
		members[name] = json.RawMessage(setting.GetDefaultJson())
		if value, ok := t.get(name); ok {
			d.checkSetting(t.key(name), setting, value)
			members[name] = json.RawMessage(literal(value))
		}
	}
	t.finish()
	if len(d.problems) > before {
		return ""
	}
	text, err := canonical(members)
	if err != nil {
		d.report(d.problem(path, "settings: "+err.Error()))
	}
	return text
}

// checkSetting reports each element of a list or table by itself.
func (d *document) checkSetting(key toml.Key, setting *proto.Setting, value any) {
	element := &proto.Setting{Type: proto.Setting_TYPE_STRING, Pattern: setting.GetPattern(), Example: setting.GetExample()}
	list, isList := value.([]any)
	table, isTable := value.(map[string]any)
	switch {
	case isList && setting.GetType() == proto.Setting_TYPE_STRING_LIST:
		for i, v := range list {
			if err := proto.CheckSetting(element, json.RawMessage(literal(v))); err != nil {
				d.report(d.elementProblem(key, i, err.Error()))
			}
		}
	case isTable && setting.GetType() == proto.Setting_TYPE_STRING_MAP:
		for name, v := range table {
			d.checkSetting(append(key[:len(key):len(key)], name), element, v)
		}
	default:
		if err := proto.CheckSetting(setting, json.RawMessage(literal(value))); err != nil {
			d.report(d.problem(key, err.Error()))
		}
	}
}

// canonical is the object with its keys sorted, at every depth, and without white space.
func canonical(members map[string]json.RawMessage) (string, error) {
	text, err := json.Marshal(members)
	if err != nil {
		return "", err
	}
	var object any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&object); err != nil {
		return "", err
	}
	text, err = json.Marshal(object)
	return string(text), err
}
