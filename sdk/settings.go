package sdk

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Settings are a container's settings of one plugin: an object in JSON that has every key of the manifest, checked
// against it.
type Settings json.RawMessage

// Decode stores the settings in the struct that into points to, whose json tags are the keys. A key that the struct
// lacks is an error.
func (s Settings) Decode(into any) error {
	decoder := json.NewDecoder(bytes.NewReader(s))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	return nil
}
