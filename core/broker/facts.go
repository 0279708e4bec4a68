package broker

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/intercede/intercede/core/figures"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/sdk/target"
)

// ContainerFacts are what the broker knows of one attached container.
type ContainerFacts struct {
	ContainerStatus
	Privileged    bool               `json:"privileged"` // it has no user namespace of its own
	UserNamespace target.NamespaceID `json:"-"`
	MaxInflight   int                `json:"max_inflight"`
	Paused        int                `json:"paused"` // listeners that wait, since the container is at its limits
	Served        []PluginFacts      `json:"served"`
	Policy        *policy.Effective  `json:"policy,omitempty"` // nil: it is not known
	Refusals      []Refusal          `json:"refusals"`         // the last first
}

// PluginFacts are what the broker knows of a container's use of one plugin.
type PluginFacts struct {
	launcher.Status
	Syscalls           []string      `json:"syscalls"`
	CallerCapabilities []string      `json:"caller_capabilities,omitempty"`
	RefusedContainer   string        `json:"refused_container,omitempty"` // why the plugin does; empty: it does not
	FellBack           string        `json:"fell_back,omitempty"`         // why settings of annotations are ignored
	Outcomes           figures.Calls `json:"outcomes"`                    // of the container's calls that it has decided or handed back
	// Kept is what the plugin has done for the container and keeps account of, by its own keys.
	Kept []string `json:"kept,omitempty"`
}

// FactsByID returns what is known of the containers with this ID or name, or else those whose IDs begin so.
func (b *Broker) FactsByID(id string) []ContainerFacts {
	found := b.attachmentsWith(func(a *attachment) bool { return a.about.ID == id || a.about.Name == id })
	if len(found) == 0 {
		found = b.attachmentsWith(func(a *attachment) bool { return id != "" && strings.HasPrefix(a.about.ID, id) })
	}
	return factsOf(found)
}

// FactsByPID returns what is known of the container that the process is in; none: it is in none that is attached.
func (b *Broker) FactsByPID(pid int) []ContainerFacts {
	proc := "/proc/" + strconv.Itoa(pid) + "/ns/"
	user, err1 := target.StatNamespace(proc + "user")
	pids, err2 := target.StatNamespace(proc + "pid")
	if err := cmp.Or(err1, err2); err != nil {
		return nil
	}
	var exact, above []*attachment
	for _, a := range b.attachmentsWith(func(*attachment) bool { return true }) { // the broker is not to wait for /proc
		if user == a.container.UserNamespace && (!a.container.Privileged || inPIDNamespaceOf(pids, a.container.InitPID)) {
			exact = append(exact, a)
		} else if below, err := a.container.Includes(pid); below && err == nil && !a.container.Privileged {
			above = append(above, a)
		}
	}
	if len(exact) > 0 {
		return factsOf(exact)
	}
	return factsOf(above)
}

// inPIDNamespaceOf reports whether the pid namespace is that of a container, which shares its user namespace with the
// host.
func inPIDNamespaceOf(pids target.NamespaceID, init int) bool {
	own, err1 := target.StatNamespace("/proc/self/ns/pid")
	theirs, err2 := target.StatNamespace("/proc/" + strconv.Itoa(init) + "/ns/pid")
	return err1 == nil && err2 == nil && pids == theirs && pids != own
}

// LostByPID returns the lost container that the process is in, if there is one.
func (b *Broker) LostByPID(pid int) (LostContainer, bool) {
	user, err := target.StatNamespace("/proc/" + strconv.Itoa(pid) + "/ns/user")
	if err != nil {
		return LostContainer{}, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.lost {
		if c := &r.Container; !c.Privileged && c.UserNamespace == user && c.Alive() {
			return LostContainer{ID: c.Claim.ID, Runtime: c.Claim.Runtime, InitPID: c.InitPID, Attached: r.Attached}, true
		}
	}
	return LostContainer{}, false
}

func factsOf(attached []*attachment) []ContainerFacts {
	list := make([]ContainerFacts, 0, len(attached))
	for _, a := range attached {
		list = append(list, a.facts())
	}
	return list
}

func (a *attachment) facts() ContainerFacts {
	inflight, _ := a.admission.limits()
	a.broker.mu.Lock()
	f := ContainerFacts{
		ContainerStatus: a.status(), Privileged: a.container.Privileged, UserNamespace: a.container.UserNamespace,
		MaxInflight: inflight, Paused: a.admission.countPaused(), Served: []PluginFacts{},
	}
	a.broker.mu.Unlock()
	f.Refusals = a.listRefusals()
	t := a.terms.Load()
	if t == nil {
		return f // the plugins are not known yet
	}
	f.Policy = t.explain()
	for i := range t.plugins {
		if !t.plugins[i].binding.Withheld {
			f.Served = append(f.Served, t.pluginFacts(i))
		}
	}
	return f
}

func (t *terms) pluginFacts(i int) PluginFacts {
	p := &t.plugins[i]
	f := PluginFacts{
		Status: p.binding.Plugin.Status(), Syscalls: []string{},
		CallerCapabilities: p.binding.Plugin.Manifest().GetCallerCapabilities(),
		Outcomes:           p.figures.calls.Calls(), Kept: p.keptLines(),
	}
	for name, routes := range t.routes {
		if slices.ContainsFunc(routes, func(r route) bool { return r.plugin == i }) {
			f.Syscalls = append(f.Syscalls, name)
		}
	}
	slices.Sort(f.Syscalls)
	if p.refused != nil {
		f.RefusedContainer = p.refused.Error()
	}
	if p.fellBack != nil {
		f.FellBack = p.fellBack.Error()
	}
	return f
}
