package broker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/record"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

const (
	// revokeGrace is how long after the deadline of its plugins the calls of a container have ended: the watchdog
	// answers them.
	revokeGrace = watchInterval + watchGrace + time.Second
	// maxShownEntry bounds what is shown of something that a plugin keeps, in bytes.
	maxShownEntry = 512
)

var (
	// errRevoked is why a plugin is not asked that the operator has taken from the container.
	errRevoked = errors.New("the operator has taken the plugin from the container")
	// ErrNothingRevoked means that there is nothing to take away.
	ErrNothingRevoked = errors.New("nothing was revoked")
)

// Revoked is what came of taking a plugin from a container.
type Revoked struct {
	Container string `json:"container"`
	Plugin    string `json:"plugin"`
	Verdict   string `json:"verdict"` // what its calls get now: "continue", or the name of an errno
	// Kept is what the plugin has done for the container and keeps account of, by its own keys. It is not undone.
	Kept []string `json:"kept,omitempty"`
	// Busy is how many calls of the container, of whichever plugin, have missed their deadlines and may still be done.
	Busy int `json:"busy,omitempty"`
}

// Revoke takes a plugin, or all (the empty name), from the attached container with this ID, or from the one whose ID
// begins so. It waits for the container's calls under way; others wait in the kernel meanwhile. From its return on
// the plugin is not asked for the container any more, by later daemons neither; its calls get the failure verdict,
// which is what the plugin's author and the operator hold safe where it does not answer. After an error of a
// container nothing of it was changed.
func (b *Broker) Revoke(id, plugin string) ([]Revoked, error) {
	attached := b.attachmentsOf(func(known string) bool { return known == id })
	if len(attached) == 0 && id != "" {
		attached = b.attachmentsOf(func(known string) bool { return strings.HasPrefix(known, id) })
		if ids := idsOf(attached); len(ids) > 1 {
			return nil, fmt.Errorf("%w: %q is the beginning of %d IDs: %s", ErrNothingRevoked, id, len(ids), strings.Join(ids, ", "))
		}
	}
	if len(attached) == 0 {
		return nil, fmt.Errorf("%w: no attached container has the ID %q: see `intercede status`", ErrNothingRevoked, id)
	}
	var all []Revoked
	var errs []error
	for _, a := range attached {
		revoked, err := a.revoke(plugin)
		all = append(all, revoked...)
		errs = append(errs, err)
	}
	return all, errors.Join(errs...)
}

func idsOf(attached []*attachment) (ids []string) {
	for _, a := range attached {
		if !slices.Contains(ids, a.container.ID) {
			ids = append(ids, a.container.ID)
		}
	}
	return ids
}

// settle waits for a change under way, and lets no other begin.
func (a *attachment) settle() {
	a.changing.Lock()
	defer a.changing.Unlock()
	a.settled = true
}

// revoke takes the plugin, or all, from the container. No call is under way while it does: so each call is handled with
// what the container had when it entered, or with what it has now.
func (a *attachment) revoke(plugin string) ([]Revoked, error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	old := a.terms.Load()
	taken, err := a.revocable(old, plugin)
	if err != nil {
		return nil, fmt.Errorf("%w: container %s: %w", ErrNothingRevoked, a.container.ID, err)
	}
	defer a.admission.release()
	limit := old.longest()
	if !a.admission.hold(limit) {
		return nil, fmt.Errorf("%w: container %s: its calls under way have not ended after %v: try again", ErrNothingRevoked, a.container.ID, limit)
	}
	// First, so that the next daemon knows of it whatever becomes of this one.
	err = a.changeRecord(func(r *record.Record) {
		for _, p := range taken {
			r.Revoke(p.binding.Plugin.Name())
		}
	})
	if err != nil {
		return nil, fmt.Errorf("%w: container %s: a later daemon would ask the plugin: %w", ErrNothingRevoked, a.container.ID, err)
	}
	now := *old
	now.plugins = slices.Clone(old.plugins)
	for i := range now.plugins {
		if p := &now.plugins[i]; slices.Contains(taken, &old.plugins[i]) {
			binding := *p.binding // which other containers may share
			binding.Revoked, binding.Withheld = true, false
			p.binding, p.session, p.refused = &binding, nil, errRevoked
		}
	}
	a.terms.Store(&now)
	closeSessions(taken)
	var all []Revoked
	for _, p := range taken {
		all = append(all, a.describeRevoked(p))
		a.broker.log.Warn().Str("container", a.container.ID).Str("plugin", p.binding.Plugin.Name()).
			Msg("revoked: the plugin is not asked for the container any more")
	}
	return all, nil
}

// revocable returns the plugins that can be taken away.
func (a *attachment) revocable(terms *terms, plugin string) (taken []*boundPlugin, err error) {
	switch {
	case a.settled:
		return nil, errContainerGone
	case terms == nil:
		return nil, errors.New("it is being attached: try again")
	}
	for i := range terms.plugins {
		p := &terms.plugins[i]
		if (plugin == "" || p.binding.Plugin.Name() == plugin) && !p.isRevoked() {
			taken = append(taken, p)
		}
	}
	if len(taken) == 0 {
		names := strings.Join(a.served(), ", ")
		return nil, fmt.Errorf("it has no such plugin, or not any more (%q); its policy gives it %s", plugin, names)
	}
	return taken, nil
}

// closeRevoked has the plugin's process forget the container. It does not wait for one that does not answer.
func closeRevoked(session *launcher.Session) { waitFor(revokeGrace, session.Close) }

func (a *attachment) describeRevoked(p *boundPlugin) Revoked {
	return Revoked{
		Container: a.container.ID, Plugin: p.binding.Plugin.Name(), Verdict: verdictName(p.binding.OnFailure),
		Kept: p.keptLines(), Busy: a.admission.atPlugins(),
	}
}

// verdictName is what the calls of a plugin get that is not asked: "continue", or the name of an errno.
func verdictName(v *wire.Verdict) string {
	if errno := v.GetErrno(); errno != 0 {
		return unix.ErrnoName(unix.Errno(errno))
	}
	return "continue"
}

// keptLines are what the plugin keeps about the container, by its own keys.
func (p *boundPlugin) keptLines() (lines []string) {
	for _, e := range p.kept.Entries() {
		lines = append(lines, wire.Plain(string(e.GetKey())+shownEntry(e.GetValue()), maxShownEntry))
	}
	slices.Sort(lines)
	return lines
}

// shownEntry is the value of an entry, which is the plugin's own.
func shownEntry(value []byte) string {
	switch {
	case len(value) == 0:
		return ""
	case wire.Plain(string(value), len(value)) == string(value):
		return ": " + string(value)
	default:
		return fmt.Sprintf(": %#x", value)
	}
}
