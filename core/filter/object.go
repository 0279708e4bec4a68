package filter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
)

// object is a JSON object whose values keep their text.
type object map[string]json.RawMessage

// set replaces the key, in whatever case it is spelled, since runtimes written in Go read every case.
func (o object) set(key string, value any) {
	o.remove(key)
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("encode %s: %v", key, err)) // only strings, numbers, and JSON that was decoded before
	}
	o[key] = text
}

func (o object) remove(key string) {
	maps.DeleteFunc(o, func(have string, _ json.RawMessage) bool { return strings.EqualFold(have, key) })
}

// text is the object as JSON.
func (o object) text() json.RawMessage {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(o); err != nil {
		panic(fmt.Sprintf("encode an object: %v", err)) // its values are JSON that was decoded or encoded before
	}
	return buffer.Bytes()
}

// encode gives the object as indented JSON with its keys in order.
func encode(o object) ([]byte, error) {
	var buffer bytes.Buffer
	if err := json.Indent(&buffer, o.text(), "", "  "); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}
