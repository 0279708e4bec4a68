package main

import "strings"

// policy has the values that an attribute may have, each one byte long, by its name.
type policy map[string]string

// lists reports whether the attribute is listed with any value.
func (p policy) lists(name string) bool { return p[name] != "" }

// allows reports whether the attribute is listed with this value.
func (p policy) allows(name, value string) bool {
	return len(value) == 1 && strings.Contains(p[name], value)
}
