package attacks

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/intercede/intercede/tests/stage"
)

// bystander is a container that makes mknod(2) and sysinfo(2) all the while, and that nobody may harm:
// testdata/bystander.c. It is at rest before and after each attack: so it counts less if the machine becomes slower, or
// faster, for another reason.
type bystander struct {
	attack  *attack
	process *stage.Process
	resting report // all that it has seen at rest
}

// report is what a bystander has seen.
type report struct {
	calls, errors                    int
	mknod, sysinfo, longest, waiting time.Duration
	text                             string
}

// bystander starts one, measures it while nothing happens, and begins to measure the attack.
func (d *daemon) bystander() *bystander {
	d.attack.Helper()
	const memory = 64 << 20
	b := &bystander{attack: d.attack, process: d.Container("--memory", strconv.Itoa(memory)).Start("bystander", strconv.Itoa(memory))}
	b.awaitCalls(200) // the start of the container and of plugins is over
	b.rest()
	b.say("attack")
	return b
}

// rest measures it while nothing happens.
func (b *bystander) rest() {
	b.attack.Helper()
	b.say("rest")
	b.resting = b.awaitCalls(b.resting.calls + 600)
	if b.resting.errors > 0 {
		b.attack.Fatalf("the bystander at rest: %+v: %s", b.resting, &b.process.Stderr)
	}
}

// awaitCalls waits until it has made so many calls.
func (b *bystander) awaitCalls(n int) (r report) {
	b.attack.Helper()
	b.attack.Eventually(fmt.Sprintf("the bystander has made %d calls", n), func() bool {
		r = b.report()
		return r.calls >= n
	})
	return r
}

func (b *bystander) say(word string) { fmt.Fprintln(b.process.In, word) }

func (b *bystander) report() (r report) {
	a := b.attack
	a.Helper()
	b.say("report")
	line := b.process.Line()
	n, err := fmt.Sscan(line, &r.calls, &r.errors, &r.mknod, &r.sysinfo, &r.longest, &r.waiting)
	if n != 6 {
		a.Fatalf("the bystander says %q: %v", line, err)
	}
	r.text = strings.SplitN(line, " ", 7)[6]
	return r
}

// judge notes what harm came to it in attacks, of which the last one is over, and ends it.
func (b *bystander) judge() {
	a := b.attack
	a.Helper()
	r := b.report()
	b.rest()
	summary.add("%s: bystander: %d calls, %d errors, longest %v; mknod %s, sysinfo %s", a.Name(), r.calls, r.errors,
		max(r.longest, r.waiting).Round(time.Millisecond), ratio(r.mknod, b.resting.mknod), ratio(r.sysinfo, b.resting.sysinfo))
	if r.errors > 0 {
		a.succeeded("%d of the bystander's %d calls failed: %s", r.errors, r.calls, r.text)
	}
	const most = 30 * time.Second // three times a call's deadline
	if r.waiting > most || r.calls == 0 {
		a.succeeded("the bystander's call takes %v", r.waiting)
	}
	b.process.Kill()
}

// ratio shows the median during an attack, and how many times that is what it is at rest.
func ratio(during, resting time.Duration) string {
	return fmt.Sprintf("%v (x%.1f)", during.Round(time.Microsecond), float64(during)/float64(max(resting, 1)))
}
