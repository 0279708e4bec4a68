package attacks

import (
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/intercede/intercede/tests/stage"
)

// TestArguments makes every call with arguments of every kind. The plugins answer them all.
func TestArguments(t *testing.T) {
	both(t, "fuzz", func(a *attack, program string) {
		d := a.serve(stage.Setup{Config: stage.Everything})
		a.harm(d, func() {
			c := d.Container("--device-cgroup-rule", "b *:* rw")
			a.PutDisk(filepath.Join(c.Root, "disk"))
			a.fuzz(d, c.Start(program, fuzzWords(a)...))
		})
	})
}

// fuzzWords are the arguments of testdata/fuzz.c.
func fuzzWords(a *attack) []string {
	seed := rand.IntN(1 << 30)
	a.Logf("seed %d", seed)
	return []string{strconv.Itoa(attempts), seconds(short()), strconv.Itoa(seed)}
}

// fuzz waits for testdata/fuzz.c, which stays until the containers were looked at.
func (a *attack) fuzz(d *daemon, p *stage.Process) {
	a.Helper()
	for _, who := range []string{"first", "second"} {
		summary.add("%s: %s calls of the %s process", a.Name(), p.Line(), who)
	}
	if line := p.Line(); line != "done" {
		a.Fatalf("the attack ends with %q", line)
	}
	for _, c := range d.Status().Containers {
		if c.Failures > 0 {
			a.succeeded("%d calls of container %s were not answered by a plugin", c.Failures, c.ID)
		}
	}
}
