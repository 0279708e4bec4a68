package setxattr

import (
	"slices"
	"strings"
)

// policy are the rules, each of which lists attributes.
type policy []rule

// rule lists the attributes that have a name, or whose names begin with it, with one value or any.
type rule struct {
	name     string
	isPrefix bool
	value    string
	hasValue bool
	limit    int // of a value's length
}

func (r rule) matches(name string) bool {
	return name == r.name || r.isPrefix && strings.HasPrefix(name, r.name)
}

// lists reports whether the attribute is listed with any value.
func (p policy) lists(name string) bool {
	return slices.ContainsFunc(p, func(r rule) bool { return r.matches(name) })
}

// allows reports whether the attribute is listed with this value.
func (p policy) allows(name, value string) bool {
	return slices.ContainsFunc(p, func(r rule) bool {
		return r.matches(name) && len(value) <= r.limit && (!r.hasValue || r.value == value)
	})
}

// longest is the length of the longest value that is listed for the attribute; -1: it is not listed.
func (p policy) longest(name string) int {
	longest := -1
	for _, r := range p {
		if r.matches(name) {
			longest = max(longest, r.limit)
		}
	}
	return longest
}
