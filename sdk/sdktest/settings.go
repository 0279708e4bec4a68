package sdktest

import (
	"encoding/json"
	"fmt"

	"github.com/intercede/intercede/internal/wire"
)

// fillSettings makes the object that Attach gets: the manifest's defaults, with the overrides over them, checked as the
// broker does.
func fillSettings(manifest *wire.Manifest, overrides map[string]any) (string, error) {
	values := map[string]json.RawMessage{}
	for _, s := range manifest.GetSettings() {
		values[s.GetKey()] = json.RawMessage(s.GetDefaultJson())
		override, ok := overrides[s.GetKey()]
		if !ok {
			continue
		}
		text, err := json.Marshal(override)
		if err != nil {
			return "", fmt.Errorf("setting %s: %w", s.GetKey(), err)
		}
		if err := wire.CheckSetting(s, text); err != nil {
			return "", fmt.Errorf("setting %s: %w", s.GetKey(), err)
		}
		values[s.GetKey()] = text
	}
	for key := range overrides {
		if _, known := values[key]; !known {
			return "", fmt.Errorf("setting %s: %s has no such setting", key, manifest.GetName())
		}
	}
	text, err := json.Marshal(values)
	return string(text), err
}
