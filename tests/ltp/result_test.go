package ltp

import (
	"fmt"
	"regexp"
)

// Statuses of a test: bits, of which these two can be of a test without a failure (tst_res_flags.h).
const (
	statusPassed  = 0
	statusSkipped = 32
)

// result is what a test came to in one place.
type result struct {
	status  int
	checks  map[string]int // how many have which result: TPASS, TFAIL, TBROK, TCONF, TWARN
	printed string
}

// check is the line of a check, by the test library's new interface or its old one.
var check = regexp.MustCompile(`\b(TPASS|TFAIL|TBROK|TCONF|TWARN)\s*:`)

func newResult(status int, printed string) result {
	r := result{status, map[string]int{}, printed}
	for _, found := range check.FindAllStringSubmatch(printed, -1) {
		r.checks[found[1]]++
	}
	return r
}

func (r result) passed() bool { return r.status == statusPassed && r.checks["TPASS"] > 0 }

// word says it in a table.
func (r result) word() string {
	switch {
	case r.passed():
		return "passed"
	case r.status == statusSkipped:
		return "skipped"
	}
	return "failed"
}

func (r result) String() string {
	return fmt.Sprintf("%s: %d checks passed, %d failed, %d not done", r.word(), r.checks["TPASS"], r.checks["TFAIL"]+r.checks["TBROK"],
		r.checks["TCONF"])
}

// differs reports whether a test, or one of its checks, passed as real root and not in the container.
func (r results) differs() bool {
	return r.root.passed() && (!r.intercepted.passed() || r.intercepted.checks["TPASS"] < r.root.checks["TPASS"])
}
