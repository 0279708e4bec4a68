package kernels

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// step is one of what a machine does, as testdata/guest.sh tells it.
type step struct {
	name            string
	output          string
	status, seconds int
}

func (s step) line() string {
	return fmt.Sprintf("%s: status %d, %d s%s\n", s.name, s.status, s.seconds, s.counts())
}

// counts are how many tests passed, failed and were skipped.
func (s step) counts() string {
	of := func(result string) int { return strings.Count(s.output, "\n--- "+result) }
	passed, failed, skipped := of("PASS"), of("FAIL"), of("SKIP")
	if passed+failed+skipped == 0 {
		return ""
	}
	return fmt.Sprintf(", %d passed, %d failed, %d skipped", passed, failed, skipped)
}

// parseSteps gives the steps that have ended, and whether the machine has come to its end.
func parseSteps(text string) (steps []step, finished bool) {
	var output strings.Builder
	for line := range strings.Lines(text) {
		rest, marked := strings.CutPrefix(strings.TrimSpace(line), "=== ")
		words := strings.Fields(rest)
		if len(words) >= 3 && marked {
			status, errStatus := strconv.Atoi(words[len(words)-2])
			seconds, errSeconds := strconv.Atoi(words[len(words)-1])
			if errStatus == nil && errSeconds == nil {
				steps = append(steps, step{strings.Join(words[:len(words)-2], " "), output.String(), status, seconds})
				output.Reset()
				continue
			}
		}
		if marked && rest == "done" {
			return steps, true
		}
		output.WriteString(line)
	}
	return steps, false
}

func TestParseSteps(t *testing.T) {
	const text = "=== doctor\nok\n\n=== doctor 0 3\n=== test sdk/notify\n=== RUN   TestX\n--- PASS: TestX (0.1s)\n\n" +
		"=== test sdk/notify 1 20\n=== run\n"
	steps, finished := parseSteps(text)
	if len(steps) != 2 || finished || steps[0].status != 0 || steps[1].name != "test sdk/notify" || steps[1].status != 1 ||
		steps[1].line() != "test sdk/notify: status 1, 20 s, 1 passed, 0 failed, 0 skipped\n" {
		t.Errorf("%+v, %v", steps, finished)
	}
	if _, finished := parseSteps(text + "=== done\n"); !finished {
		t.Error("it has not finished")
	}
}
