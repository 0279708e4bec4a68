package attacks

import (
	"strconv"
	"testing"

	"github.com/intercede/intercede/tests/stage"
)

// TestOCI has attacks come from containers of OCI runtimes.
func TestOCI(t *testing.T) {
	for _, runtime := range stage.Runtimes {
		t.Run(runtime+"/exec race", func(t *testing.T) {
			a := newAttack(t)
			a.judgeRace(a.Start(a.serve(held()).OCI(stage.OCI{Runtime: runtime}, nil, "exec", slowly("mknod")...)).Wait())
		})
		t.Run(runtime+"/memory", func(t *testing.T) {
			a := newAttack(t)
			d := a.serve(stage.Setup{Config: stage.Everything})
			a.judgeMemory(a.Start(d.OCI(stage.OCI{Runtime: runtime}, nil, "memory", strconv.Itoa(attempts), seconds(duration))).Wait())
		})
	}
}
