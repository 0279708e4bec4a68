package conformance

import (
	"context"
	"fmt"
	"slices"

	"github.com/intercede/intercede/core/conformance/caller"
	"github.com/intercede/intercede/internal/wire"
)

// checkRepeat has the plugin killed with the answer at hand: what becomes of the call, its class says. Each call is one
// of another container: on a busy machine the launcher may blame one, which then has a process of its own.
func (s *subject) checkRepeat(ctx context.Context, p *probe) (Finding, error) {
	var outcomes []string
	for i := range p.bases() {
		s.dropContainer()
		c, err := s.callers(ctx)
		if err != nil {
			return Finding{}, err
		}
		f, err := s.loseAnswer(c, p, i)
		if err != nil || f.Status != OK {
			return f, err
		}
		outcomes = append(outcomes, f.Text)
	}
	s.dropContainer()
	slices.Sort(outcomes)
	return Finding{Status: OK, Text: className(p.syscall) + ": " + joined(slices.Compact(outcomes))}, nil
}

// loseAnswer makes an ordinary call three times, the last time with the answer lost.
func (s *subject) loseAnswer(c *caller.Container, p *probe, i int) (Finding, error) {
	var before [2]string
	for k := range before {
		var err error
		if before[k], _, err = s.outcome(c, p.bases()[i], false); err != nil {
			return Finding{}, err
		}
	}
	if before[0] != before[1] {
		return Finding{Status: OK, Text: fmt.Sprintf("not compared, since equal calls got %s and %s", before[0], before[1])}, nil
	}
	after, calls, err := s.outcome(c, p.bases()[i], true)
	if err != nil {
		return Finding{}, err
	}
	status := s.status()
	if status.Restarts == s.restarts {
		return Finding{Status: Skip, Text: "the plugin gave no answer that could be lost"}, nil
	}
	s.restarts = status.Restarts
	return s.judgeRepeat(p, before[0], after, calls), nil
}

// outcome makes a call, whose answer may be lost, and says what its caller got.
func (s *subject) outcome(c *caller.Container, call caller.Call, lose bool) (string, []record, error) {
	if err := c.Prepare(call); err != nil {
		return "", nil, err
	}
	s.settle() // no other call has an answer that could be lost
	s.seen.take()
	plugin := s.engine.Plugins()[0]
	plugin.LoseNextAnswer(lose)
	result, err := c.Release()
	plugin.LoseNextAnswer(false)
	s.settle()
	calls := s.seen.take()
	if result.Ended != "" {
		return result.Ended, calls, err
	}
	return errnoName(result.Errno), calls, err
}

// judgeRepeat compares what two equal calls got, with the answer of the second lost.
func (s *subject) judgeRepeat(p *probe, before, after string, calls []record) Finding {
	class := p.syscall.GetRepeat()
	if class == wire.Repeat_REPEAT_NEVER {
		return Finding{Status: OK, Text: "the caller gets the failure verdict"}
	}
	for _, r := range calls {
		if r.err != nil {
			return *s.explain(r, s.status())
		}
	}
	if before == after {
		return Finding{Status: OK, Text: before + " again"}
	}
	f := Finding{Status: Fail, Text: fmt.Sprintf("the caller got %s, and %s when the plugin died with the answer at hand", before, after)}
	if class == wire.Repeat_REPEAT_SAFE {
		f.Next = "the call does something else when it is done twice: declare RepeatCheck, or RepeatNever"
	} else {
		f.Next = "Check is to find that the process before has done the call, and to answer as that would have"
	}
	return f
}

func className(declared *wire.Syscall) string {
	return map[wire.Repeat]string{
		wire.Repeat_REPEAT_NEVER: "never", wire.Repeat_REPEAT_SAFE: "safe", wire.Repeat_REPEAT_CHECK: "check",
	}[declared.GetRepeat()]
}
