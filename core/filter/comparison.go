package filter

import (
	"errors"
	"math"
)

const (
	opEqual       = "SCMP_CMP_EQ"
	opNotEqual    = "SCMP_CMP_NE"
	opMaskedEqual = "SCMP_CMP_MASKED_EQ"
)

// comparison is an argument of a rule in a profile. The mask of SCMP_CMP_MASKED_EQ is Value, what it is compared with
// ValueTwo.
type comparison struct {
	Index    uint32 `json:"index"`
	Value    uint64 `json:"value"`
	ValueTwo uint64 `json:"valueTwo"`
	Op       string `json:"op"`
}

func (c condition) comparison() comparison {
	if c.mask == math.MaxUint64 {
		return comparison{Index: c.arg, Value: c.value, Op: opEqual}
	}
	return comparison{c.arg, c.mask, c.value, opMaskedEqual}
}

// comparisons gives the match as the arguments of a rule.
func (m match) comparisons() []comparison {
	var list []comparison
	for _, c := range m {
		list = append(list, c.comparison())
	}
	return list
}

// checkRules says why a runtime's libseccomp might get the rules for the matches wrong. It (2.5.0 to 2.6.1) shares
// instructions between rules and architectures without regard to what they expect in the accumulator. A rule beside
// another is right only if it is decided by one word.
func checkRules(matches []match) error {
	if len(matches) < 2 {
		return nil
	}
	for _, m := range matches {
		if len(m) > 1 || m[0].mask > math.MaxUint32 {
			return errors.New("libseccomp, which runtimes use, does not get several matches right unless each is one condition of 32 bits: use one match, or fewer conditions")
		}
	}
	return nil
}
