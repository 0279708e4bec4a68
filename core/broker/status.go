package broker

import (
	"slices"
	"strings"
	"time"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/figures"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/core/record"
)

// ContainerStatus is what an operator sees of an attached container.
type ContainerStatus struct {
	ID         string    `json:"id"`
	Name       string    `json:"name,omitempty"` // that the operator or the engine gave it; empty: none is known
	Image      string    `json:"image,omitempty"`
	Generation uint64    `json:"generation,omitempty"` // of the config that it has; 0: an earlier daemon's, or it is being attached
	Runtime    string    `json:"runtime"`
	InitPID    int       `json:"init_pid"`
	Attached   time.Time `json:"attached"`
	Listeners  int       `json:"listeners"`
	Inflight   int       `json:"inflight"` // calls being handled
	Calls      uint64    `json:"calls"`
	Failures   uint64    `json:"failures"` // calls that got a plugin's failure verdict
	Plugins    []string  `json:"plugins"`
	// Quarantines are why calls of it get the failure verdict at once.
	Quarantines []Quarantine `json:"quarantines,omitempty"`
	// Unserved are those of Plugins that are not asked for it.
	Unserved []Unserved `json:"unserved,omitempty"`
	// Unnotified are system calls that its filter may not notify, of a policy that it got while it ran.
	Unnotified []string `json:"unnotified,omitempty"`
	// Throttled are listeners whose calls wait in the kernel, because the container is at its limits.
	Throttled int               `json:"throttled"`
	Outcomes  figures.Calls     `json:"outcomes"`  // of calls that have ended
	Durations figures.Durations `json:"durations"` // from the receipt to the answer
}

// Status lists the attached containers, the oldest first.
func (b *Broker) Status() []ContainerStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]ContainerStatus, 0, len(b.containers))
	for _, a := range b.containers {
		list = append(list, a.status())
	}
	slices.SortFunc(list, func(x, y ContainerStatus) int { return x.Attached.Compare(y.Attached) })
	return list
}

// status is what an operator sees of the container. The broker is locked.
func (a *attachment) status() ContainerStatus {
	s := ContainerStatus{
		ID: a.container.ID, Name: a.about.Name, Image: a.about.Image,
		Runtime: a.container.Runtime, InitPID: a.container.InitPID, Attached: a.attached,
		Listeners: a.listenerCount, Inflight: a.admission.inflight(), Calls: a.calls.Load(), Failures: a.failures.Load(),
		Quarantines: a.quarantines(), Plugins: a.served(), Unserved: a.unserved(),
		Throttled: a.admission.throttledListeners(), Outcomes: a.figures.calls.Calls(), Durations: a.figures.durations.Durations(),
	}
	if t := a.terms.Load(); t != nil {
		s.Generation, s.Unnotified = t.about.Generation, t.unnotified()
	}
	return s
}

// ContainerPolicy explains to an operator what an attached container got of the policy.
type ContainerPolicy struct {
	*policy.Effective
	// Privileged means that the container has no user namespace of its own: its calls are left to the kernel, but for
	// those of the plugins in Served.
	Privileged bool     `json:"privileged"`
	Served     []string `json:"served,omitempty"`
}

// LostContainer is a container whose listeners ended with an earlier daemon: its calls get ENOSYS until it is created
// anew.
type LostContainer struct {
	ID       string    `json:"id"`
	Runtime  string    `json:"runtime"`
	InitPID  int       `json:"init_pid"`
	Attached time.Time `json:"attached"`
}

// Lost lists the lost containers that still live.
func (b *Broker) Lost() []LostContainer {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost = slices.DeleteFunc(b.lost, func(r *record.Record) bool {
		if r.Container.Alive() && !b.reconnected(&r.Container) {
			return false
		}
		b.state.Records.Remove(r.Number)
		return true
	})
	list := []LostContainer{}
	for _, r := range b.lost {
		c := &r.Container
		list = append(list, LostContainer{ID: c.Claim.ID, Runtime: c.Claim.Runtime, InitPID: c.InitPID, Attached: r.Attached})
	}
	return list
}

// reconnected reports whether a lost container is served again. LXC's monitor keeps the listener, and connects anew
// for a call; a listener of an OCI runtime that comes later is of another process, whose parent stays lost.
func (b *Broker) reconnected(lost *container.Saved) bool {
	if lost.Claim.Runtime != "lxc" {
		return false
	}
	for _, a := range b.containers {
		if a.container.InitPID == lost.InitPID && a.container.UserNamespace == lost.UserNamespace {
			return true
		}
	}
	return false
}

// Policies explains what the attached containers with this ID got, or else those whose IDs begin so; the oldest first.
func (b *Broker) Policies(id string) []ContainerPolicy {
	attached := b.attachmentsOf(func(known string) bool { return known == id })
	if len(attached) == 0 && id != "" {
		attached = b.attachmentsOf(func(known string) bool { return strings.HasPrefix(known, id) })
	}
	list := []ContainerPolicy{}
	for _, a := range attached {
		if effective := a.explain(); effective != nil {
			p := ContainerPolicy{Effective: effective, Privileged: a.container.Privileged}
			if p.Privileged {
				p.Served = a.served()
			}
			list = append(list, p)
		}
	}
	return list
}

// explain returns why the container has what it has; nil if that is not known, or not yet.
func (a *attachment) explain() *policy.Effective {
	if t := a.terms.Load(); t != nil {
		return t.explain()
	}
	return nil
}

// served are the names of the plugins that the policy gives to the container.
func (a *attachment) served() []string {
	names := []string{}
	for _, p := range a.bound() {
		if !p.binding.Withheld {
			names = append(names, p.binding.Plugin.Name())
		}
	}
	return names
}

func (b *Broker) attachmentsOf(wanted func(id string) bool) []*attachment {
	return b.attachmentsWith(func(a *attachment) bool { return wanted(a.container.ID) })
}

// attachmentsWith returns those that are wanted, the oldest first.
func (b *Broker) attachmentsWith(wanted func(*attachment) bool) (found []*attachment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.containers {
		if wanted(a) {
			found = append(found, a)
		}
	}
	slices.SortFunc(found, func(x, y *attachment) int { return x.attached.Compare(y.attached) })
	return found
}
