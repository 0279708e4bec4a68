package attacks

import (
	"strconv"
	"testing"

	"github.com/intercede/intercede/tests/stage"
)

// TestLXC has the attacks come from a container of LXC's, whose notifications come through its monitor.
func TestLXC(t *testing.T) {
	t.Run("exec race", func(t *testing.T) {
		a := newAttack(t)
		a.judgeRace(a.Start(a.serve(held()).LXC(nil, "exec", slowly("mknod")...)).Wait())
	})
	t.Run("write-back race", func(t *testing.T) {
		a := newAttack(t)
		a.judgeRace(a.Start(a.serve(held()).LXC(nil, "exec", slowly("sysinfo")...)).Wait())
	})
	t.Run("memory", func(t *testing.T) {
		a := newAttack(t)
		d := a.serve(stage.Setup{Config: stage.Everything})
		a.judgeMemory(a.Start(d.LXC(nil, "memory", strconv.Itoa(attempts), seconds(duration))).Wait())
	})
	t.Run("arguments", func(t *testing.T) {
		a := newAttack(t)
		d := a.serve(stage.Setup{Config: stage.Everything})
		a.harm(d, func() { a.fuzz(d, a.Start(d.LXC(nil, "fuzz", fuzzWords(a)...))) })
	})
	t.Run("load", func(t *testing.T) {
		a := newAttack(t)
		d := a.serve(stage.Setup{Config: stage.Everything})
		a.harm(d, func() { a.Start(d.LXC(nil, "hog", "mknod", "100", seconds(short()))).Wait() })
	})
}
