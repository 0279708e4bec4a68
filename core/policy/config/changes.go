package config

import (
	"fmt"
	"maps"
	"slices"
)

// maxShownValue bounds a value that Changes shows, in bytes.
const maxShownValue = 200

// Changes says, a line for each key, what the document has that the other does not have so: nothing where both say the
// same.
func (d *Document) Changes(before *Document) []string {
	old, now := flatten("", before.values), flatten("", d.values)
	keys := maps.Clone(old)
	maps.Copy(keys, now)
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		was, had := old[key]
		is, has := now[key]
		switch {
		case !had:
			lines = append(lines, fmt.Sprintf("%s: %s (was not given)", key, is))
		case !has:
			lines = append(lines, fmt.Sprintf("%s: not given any more (was %s)", key, was))
		case was != is:
			lines = append(lines, fmt.Sprintf("%s: %s (was %s)", key, is, was))
		}
	}
	return lines
}

// flatten gives the values of a table and of those in it by their keys, as they are shown.
func flatten(prefix string, values map[string]any) map[string]string {
	flat := map[string]string{}
	for name, value := range values {
		key := prefix + name
		if table, ok := value.(map[string]any); ok && len(table) > 0 {
			maps.Copy(flat, flatten(key+".", table))
		} else if tables, ok := tablesOf(value); ok && prefix == "" && len(tables) > 0 {
			for i, table := range tables {
				maps.Copy(flat, flatten(fmt.Sprintf("%s[%d].", key, i), table))
			}
		} else {
			flat[key] = shown(value)
		}
	}
	return flat
}

func shown(value any) string {
	text := literal(value)
	if len(text) > maxShownValue {
		return text[:maxShownValue] + "..."
	}
	return text
}
