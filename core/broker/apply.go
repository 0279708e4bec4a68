package broker

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/intercede/intercede/core/record"
	"github.com/intercede/intercede/internal/wire"
)

// errWithheld is why a plugin is not asked that the policy no longer gives to the container.
var errWithheld = errors.New("the policy does not give the container the plugin any more")

// Applied is what came of giving a running container another policy.
type Applied struct {
	Container string   `json:"container"`
	Name      string   `json:"name,omitempty"`
	Error     string   `json:"error,omitempty"` // why it keeps the policy that it had; empty: it has the new one
	Added     []string `json:"added,omitempty"`
	Changed   []string `json:"changed,omitempty"` // plugins with other settings, or another program
	Taken     []string `json:"taken,omitempty"`   // plugins that are not asked any more
	Revoked   []string `json:"revoked,omitempty"` // plugins of the policy that `intercede revoke` has taken, which they stay
	// Unnotified are system calls of the policy that the container's filter may not notify: see terms.unnotified.
	Unnotified []string `json:"unnotified,omitempty"`
	// Kept is what the plugins in Changed and Taken have done for the container and keep account of. It is not undone.
	Kept []string `json:"kept,omitempty"`
	// Busy is how many calls of the container have missed their deadlines and may still be done.
	Busy int `json:"busy,omitempty"`
}

// Apply gives the running containers the current generation, all at once, and says for each what came of it, the oldest
// first. From its return on no call is handled by the policy that a container had before, nor by a part of it: see
// attachment.apply. A container for which an error is reported keeps all of its former policy.
func (b *Broker) Apply(ctx context.Context) []Applied {
	b.mu.Lock()
	next := b.generation.hold()
	b.mu.Unlock()
	defer next.release()
	attached := b.attachmentsWith(func(*attachment) bool { return true })
	all := make([]*Applied, len(attached))
	slots := make(chan struct{}, adoptersPerProcessor*runtime.GOMAXPROCS(0))
	var applying sync.WaitGroup
	for i, a := range attached {
		applying.Go(func() { all[i] = a.apply(ctx, next, slots) })
	}
	applying.Wait()
	list := []Applied{}
	for _, applied := range all {
		if applied != nil {
			list = append(list, *applied)
		}
	}
	return list
}

// apply gives the container another generation. It holds the admission: calls wait in the kernel, and those under way
// end by the policy that they began with. So no call is under way while the terms change, and each call looks at them
// once, after it was counted in. nil: the container has ended, or has the generation already. A slot is taken for what
// needs a thread or a plugin, once no call is under way.
func (a *attachment) apply(ctx context.Context, next *Generation, slots chan struct{}) *Applied {
	select {
	case <-a.ready:
	case <-a.ctx.Done():
		return nil
	}
	a.changing.Lock()
	defer a.changing.Unlock()
	if a.settled || a.generation == next {
		return nil
	}
	applied := &Applied{Container: a.container.ID, Name: a.about.Name}
	former, err := a.replace(ctx, next, slots, applied)
	log := a.broker.log.With().Str("container", a.container.ID).Logger()
	if err != nil && a.ctx.Err() != nil { // the container, or the broker, has ended
		return nil
	}
	if err != nil {
		applied = &Applied{Container: applied.Container, Name: applied.Name, Error: err.Error()}
		log.Error().Err(err).Msg("the container keeps the policy that it had")
		return applied
	}
	former.release()
	log.Info().Strs("added", applied.Added).Strs("changed", applied.Changed).Strs("taken", applied.Taken).
		Strs("may_not_be_notified", applied.Unnotified).Msg("the running container has the policy now")
	return applied
}

// replace replaces the container's terms, and returns the generation that it had. After an error nothing has changed.
func (a *attachment) replace(ctx context.Context, next *Generation, slots chan struct{}, applied *Applied) (*Generation, error) {
	old := a.terms.Load()
	defer a.admission.release()
	if limit := old.longest(); !a.admission.hold(limit) {
		return nil, fmt.Errorf("its calls under way have not ended after %v: try again", limit)
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	terms, opened, err := a.termsAfter(ctx, next, old)
	if err == nil {
		// First, so that the next daemon has the same whatever becomes of this one.
		err = a.recordTerms(terms)
	}
	if err != nil {
		closeSessions(opened)
		return nil, err
	}
	a.describeApplied(applied, old, terms)
	a.terms.Store(terms)
	a.admission.limit(next.Limits, a.broker.crew.max)
	former := a.generation
	a.generation = next.hold()
	closeSessions(terms.withoutSessionsOf(old))
	return former, nil
}

// termsAfter makes what the container gets of the next generation, after the old terms. The sessions that were opened
// for it are returned too. They are all that is changed, and none of them is asked yet.
func (a *attachment) termsAfter(ctx context.Context, next *Generation, old *terms) (*terms, []*boundPlugin, error) {
	assignment := next.assign(a.container)
	if a.container.Privileged {
		assignment.Bindings = servingAny(assignment.Bindings)
	}
	bindings, err := succeed(assignment.Bindings, old)
	if err != nil {
		return nil, nil, err
	}
	assignment.Bindings = bindings
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	plugins := make([]boundPlugin, len(bindings))
	errs := make([]error, len(bindings))
	opens := make([]bool, len(bindings))
	var opening sync.WaitGroup
	for i := range bindings {
		p, was := &plugins[i], old.plugin(bindings[i].Plugin.Name())
		if opens[i] = !p.goOn(&bindings[i], was); opens[i] {
			name := bindings[i].Plugin.Name()
			p.bind(&bindings[i], a.storeAfter(was, name), a.figuresAfter(was, name))
			log := a.broker.log.With().Str("container", a.container.ID).Str("plugin", p.binding.Plugin.Name()).Logger()
			opening.Go(func() { errs[i] = p.open(ctx, a.container.Wire(), a.admission, log) })
		} else if p.binding.Revoked && p.named == nil {
			p.named = old.generation.SyscallName
		}
	}
	opening.Wait()
	var opened []*boundPlugin
	for i := range plugins {
		if opens[i] {
			opened = append(opened, &plugins[i])
		}
	}
	if err := errors.Join(errs...); err != nil {
		closeSessions(opened)
		return nil, nil, err
	}
	return a.newTerms(next, assignment, plugins, old.filterOf()), opened, nil
}

// goOn has the container use the plugin as before, and reports whether it does: if program and settings are the same,
// or it is not asked now either.
func (p *boundPlugin) goOn(binding *Binding, was *boundPlugin) bool {
	if binding.Revoked {
		*p = *was
		p.binding, p.session, p.refused = binding, nil, binding.silence()
		return true
	}
	if was == nil || was.session == nil || was.binding.Plugin != binding.Plugin {
		return false
	}
	same := was.binding.Settings == binding.Settings
	if was.fellBack != nil {
		same = was.assigned.Settings == binding.Settings && was.assigned.Fallback == binding.Fallback
	}
	if !same {
		return false
	}
	*p = *was
	p.binding, p.assigned = binding, binding
	if was.fellBack != nil {
		p.fallBack(was.fellBack)
	}
	return true
}

// succeed returns what the container has after the old terms, of the bindings that the next generation gives it. What
// was revoked stays so, with the binding that it had. A plugin that is not given any more stays too, without being
// asked: for what it keeps, and since the kernel must not have its calls if its manifest says so. These come last.
func succeed(next []Binding, old *terms) ([]Binding, error) {
	var live, silent []Binding
	for _, b := range next {
		was := old.plugin(b.Plugin.Name())
		keep, err := was.precedes(&b)
		if err != nil {
			return nil, err
		}
		if !keep {
			live = append(live, b)
		}
	}
	for i := range old.plugins {
		was := &old.plugins[i]
		given := slices.ContainsFunc(live, func(b Binding) bool { return b.Plugin.Name() == was.binding.Plugin.Name() })
		if !given {
			silent = append(silent, was.silenced())
		}
	}
	if len(silent) == 0 && len(live) == len(next) {
		return next, nil // which containers share
	}
	return append(live, silent...), nil
}

// precedes reports whether the plugin is not asked although the next generation gives it to the container. p may be
// nil: the container has not had it.
func (p *boundPlugin) precedes(next *Binding) (silent bool, err error) {
	if p == nil {
		return false, nil
	}
	if p.isRevoked() {
		return true, nil
	}
	if !p.binding.Plugin.Manifest().GetNeverContinue() {
		return false, nil
	}
	taken, before := takenBy(next), takenBy(p.binding)
	switch {
	case len(before) == 0 || len(missing(before, taken)) == 0:
		return false, nil
	case len(taken) == 0:
		return true, nil
	}
	return false, fmt.Errorf("plugin %s: of the system calls that it had it would not have %q any more, which must not go to the kernel: "+
		"`intercede revoke` takes all of them", next.Plugin.Name(), missing(before, taken))
}

// isRevoked reports whether the operator has taken the plugin from this container.
func (p *boundPlugin) isRevoked() bool { return errors.Is(p.refused, errRevoked) }

// silenced returns the binding of a plugin that is not asked any more. Its calls are left to the kernel, as those of a
// container that never had it, unless the manifest forbids that.
func (p *boundPlugin) silenced() Binding {
	b := *p.binding
	b.Fallback = ""
	b.Withheld = !p.isRevoked()
	b.Revoked = true
	if b.Withheld && !b.Plugin.Manifest().GetNeverContinue() {
		b.OnFailure = &wire.Verdict{Kind: &wire.Verdict_Continue{Continue: true}}
	}
	return b
}

// silentResponse is what the calls of a plugin get that is not asked any more. Another plugin may take them, and must
// not let the kernel have them.
func silentResponse(v *wire.Verdict) *wire.Response {
	if v.GetErrno() == 0 {
		return nextResponse
	}
	return failureResponse(v)
}

// recordTerms writes the terms into the container's record.
func (a *attachment) recordTerms(terms *terms) error {
	err := a.changeRecord(func(r *record.Record) {
		kept := r.Kept()
		r.Plugins = nil
		for i := range terms.plugins {
			p := terms.plugins[i].binding.record()
			p.Kept = kept[p.Name]
			r.Plugins = append(r.Plugins, p)
		}
		r.Effective, r.Filter = terms.explanation(), terms.filter
	})
	if err != nil {
		return fmt.Errorf("a later daemon would not have the policy: %w", err)
	}
	return nil
}

// withoutSessionsOf returns the container's former use of plugins whose sessions it does not have any more.
func (t *terms) withoutSessionsOf(old *terms) (over []*boundPlugin) {
	for i := range old.plugins {
		was := &old.plugins[i]
		goesOn := slices.ContainsFunc(t.plugins, func(p boundPlugin) bool { return p.session == was.session })
		if was.session != nil && !goesOn {
			over = append(over, was)
		}
	}
	return over
}

// closeSessions has the plugins' processes forget the container. It does not wait for those that do not answer.
func closeSessions(plugins []*boundPlugin) {
	var closing sync.WaitGroup
	for _, p := range plugins {
		if p.session != nil {
			closing.Go(func() { closeRevoked(p.session) })
		}
	}
	closing.Wait()
}

func (a *attachment) describeApplied(applied *Applied, old, now *terms) {
	applied.Busy = a.admission.atPlugins()
	applied.Unnotified = now.unnotified()
	for i := range now.plugins {
		p := &now.plugins[i]
		name, was := p.binding.Plugin.Name(), old.plugin(p.binding.Plugin.Name())
		switch {
		case p.isRevoked():
			applied.Revoked = append(applied.Revoked, name)
			continue
		case p.binding.Withheld:
			if was.binding.Withheld {
				continue
			}
			applied.Taken = append(applied.Taken, name)
		case was == nil || was.binding.Withheld:
			applied.Added = append(applied.Added, name)
			continue
		case was.session == p.session:
			continue
		default:
			applied.Changed = append(applied.Changed, name)
		}
		for _, entry := range was.keptLines() {
			applied.Kept = append(applied.Kept, name+": "+entry)
		}
	}
}
