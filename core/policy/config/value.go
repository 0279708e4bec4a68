package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// literal is a TOML value as JSON. Floats and datetimes, which no key and no setting takes, are as in TOML, so that
// they are not a JSON value that anything takes either.
func literal(value any) string {
	switch v := value.(type) {
	case string:
		return quote(v)
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return floatLiteral(v)
	case time.Time:
		return v.Format(time.RFC3339Nano)
	case []any:
		return listLiteral(v)
	case []map[string]any:
		return listLiteral(v)
	case map[string]any:
		return tableLiteral(v)
	}
	panic(fmt.Sprintf("toml.Decode gave a %T", value))
}

func quote(text string) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.Encode(text) // a string always encodes
	return strings.TrimSuffix(b.String(), "\n")
}

func floatLiteral(v float64) string {
	text := strings.ToLower(strconv.FormatFloat(v, 'g', -1, 64))
	if strings.ContainsAny(text, ".eni") {
		return text
	}
	return text + ".0"
}

func listLiteral[E any](list []E) string {
	elements := make([]string, len(list))
	for i, element := range list {
		elements[i] = literal(element)
	}
	return "[" + strings.Join(elements, ",") + "]"
}

func tableLiteral(table map[string]any) string {
	var members []string
	for _, key := range slices.Sorted(maps.Keys(table)) {
		members = append(members, quote(key)+":"+literal(table[key]))
	}
	return "{" + strings.Join(members, ",") + "}"
}
