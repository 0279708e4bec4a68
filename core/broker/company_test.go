package broker

import "testing"

// TestCompany leaves a processor to other containers while these call too, and to none otherwise.
func TestCompany(t *testing.T) {
	t.Parallel()
	const processors = 4
	a := newPaced(16, processors)
	other := newAdmission(Limits{MaxInflight: 16}, 100, a.pacer)
	expect := func(want int, when string) {
		t.Helper()
		if got := a.pacer.quick(); got != want {
			t.Errorf("%s a container may have %d quick calls, want %d", when, got, want)
		}
	}
	enter := func(a *admission) { (&paced{armed: true}).call(t, a) }

	expect(processors, "at the beginning")
	enter(a)
	enter(a)
	expect(processors, "after calls of one container")
	enter(other)
	expect(processors-1, "after a call of another one")
	enter(other)
	expect(processors-1, "after a second call of that")
	a.pacer.company.until.Store(int64(clock()))
	enter(other)
	expect(processors, "long after the last call of the first one")
}

// TestCompanyOfOneProcessor leaves each container a call.
func TestCompanyOfOneProcessor(t *testing.T) {
	t.Parallel()
	p := &pacer{processors: 1}
	p.company.note(&admission{})
	p.company.note(&admission{})
	if got := p.quick(); got != 1 {
		t.Errorf("a container may have %d quick calls", got)
	}
}
