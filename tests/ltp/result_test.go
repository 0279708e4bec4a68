package ltp

import (
	"fmt"
	"regexp"

	"github.com/intercede/intercede/tests/compare"
)

// Statuses of a test: bits, of which these two can be of a test without a failure (tst_res_flags.h).
const (
	statusPassed  = 0
	statusSkipped = 32
)

// check is the line of a check, by the test library's new interface or its old one.
var check = regexp.MustCompile(`\b(TPASS|TFAIL|TBROK|TCONF|TWARN)\s*:`)

func readResult(status int, printed string) compare.Result {
	checks := map[string]int{}
	for _, found := range check.FindAllStringSubmatch(printed, -1) {
		checks[found[1]]++
	}
	r := compare.Result{Ran: len(checks) > 0, Outcome: compare.Failed, Checks: checks["TPASS"], Printed: printed}
	switch {
	case status == statusPassed && checks["TPASS"] > 0:
		r.Outcome = compare.Passed
	case status == statusSkipped:
		r.Outcome = compare.Skipped
	}
	r.Text = fmt.Sprintf("%s: %d checks passed, %d failed, %d not done", r.Outcome, checks["TPASS"], checks["TFAIL"]+checks["TBROK"],
		checks["TCONF"])
	return r
}
