package attacks

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// TestMemory has results written to memory that the caller may not write to.
func TestMemory(t *testing.T) {
	for _, program := range []string{"memory", "memory32"} {
		for name, s := range map[string]setup{
			"undisturbed": {config: everything},
			"delayed":     {config: everything, programs: delayed, delays: "write=300us,answer=300us"},
		} {
			t.Run(program+"/"+name, func(t *testing.T) {
				a := newAttack(t)
				a.judgeMemory(a.serve(s).container().run(program, strconv.Itoa(attempts), seconds(duration)))
			})
		}
	}
}

// judgeMemory reads what testdata/memory.c printed.
func (a *attack) judgeMemory(printed string) {
	for line := range strings.Lines(printed) {
		var written, refused int
		switch n, _ := fmt.Sscanf(line, "exchanged %d %d", &written, &refused); {
		case n == 2:
			summary.add("%s: memory that changes was written to %d times, and refused %d times", a.Name(), written, refused)
			if written == 0 || refused == 0 {
				a.Errorf("memory that changes: %s", line)
			}
		case line != "done\n":
			a.succeeded("%s", strings.TrimSpace(line))
		}
	}
	if !strings.HasSuffix(printed, "done\n") {
		a.Errorf("the attack did not come to its end: %s", printed)
	}
}
