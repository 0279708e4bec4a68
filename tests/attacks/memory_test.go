package attacks

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/intercede/intercede/tests/stage"
)

// TestMemory has results written to memory that the caller may not write to.
func TestMemory(t *testing.T) {
	for _, program := range []string{"memory", "memory32"} {
		for name, s := range map[string]stage.Setup{
			"undisturbed": {Config: stage.Everything},
			"delayed":     {Config: stage.Everything, Programs: stage.Delayed, Delays: "write=300us,answer=300us"},
		} {
			t.Run(program+"/"+name, func(t *testing.T) {
				a := newAttack(t)
				a.judgeMemory(a.serve(s).Container().Run(program, strconv.Itoa(attempts), seconds(duration)))
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
