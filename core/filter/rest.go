package filter

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// maxRest bounds how many rules it may take to say what the plugins leave over of one call. A program has 4096
// instructions at most, and a rule takes three or more on each architecture.
const maxRest = 64

// rest gives comparisons, a rule for each, that together hold for exactly the calls that no match holds for. A rule may
// compare an argument only once and not with "masked not equal", so the matches must compare one and the same argument.
func rest(matches []match) ([]comparison, error) {
	first := matches[0][0]
	if len(matches) == 1 && len(matches[0]) == 1 && first.mask == math.MaxUint64 {
		return []comparison{{Index: first.arg, Value: first.value, Op: opNotEqual}}, nil
	}
	// What differs from a match differs in a bit of it; what differs from several, in a bit of each.
	terms := []condition{{arg: first.arg}}
	for _, m := range matches {
		if len(m) != 1 || m[0].arg != first.arg || m[0].mask > math.MaxUint32 {
			return nil, errors.New("a profile can only tell what the plugins leave over of a call if their conditions compare the same 32 bits of one argument, or all 64 with one value")
		}
		terms = intersect(terms, m[0].differing())
		if len(terms) > maxRest {
			return nil, fmt.Errorf("what the plugins leave over takes more than %d rules", maxRest)
		}
	}
	var comparisons []comparison
	for _, t := range terms {
		comparisons = append(comparisons, t.comparison())
	}
	return comparisons, nil
}

// differing gives the conditions that hold where c does not: for each bit of the mask, that the bit is another.
func (c condition) differing() []condition {
	var terms []condition
	for bit := uint64(1); bit <= c.mask; bit <<= 1 {
		if c.mask&bit != 0 {
			terms = append(terms, condition{c.arg, bit, ^c.value & bit})
		}
	}
	return terms
}

// intersect gives the intersection of two unions of conditions on one argument, without those that imply another.
func intersect(a, b []condition) []condition {
	var terms []condition
	for _, x := range a {
		for _, y := range b {
			if contradict := (x.value ^ y.value) & x.mask & y.mask; contradict == 0 {
				terms = widen(terms, condition{x.arg, x.mask | y.mask, x.value | y.value})
			}
		}
	}
	return terms
}

// widen adds c to the union of the terms, and drops what others imply.
func widen(terms []condition, c condition) []condition {
	if slices.ContainsFunc(terms, c.implies) {
		return terms
	}
	terms = slices.DeleteFunc(terms, func(t condition) bool { return t.implies(c) })
	return append(terms, c)
}

func (c condition) implies(other condition) bool {
	return other.mask&^c.mask == 0 && c.value&other.mask == other.value
}
