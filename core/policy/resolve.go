package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/intercede/intercede/sdk/proto"
)

// Manifests are what is known of plugins, by name.
type Manifests struct {
	Read      map[string]*proto.Manifest // those that proto.CheckManifest has accepted
	Unread    map[string]error           // why there is none of an enabled plugin
	Installed []string                   // names of plugins, to guess what a misspelt one means
}

// Resolve holds the config against the manifests. There must be one for each enabled plugin. The Policy is nil if this
// stage or [Parse] found problems.
func Resolve(config *Config, manifests Manifests) (*Policy, Problems) {
	doc := &document{places: config.places}
	policy := &Policy{Broker: config.Broker}
	for _, plugin := range config.Plugins {
		if plugin.Enabled && doc.checkManifest(plugin, manifests) {
			policy.Plugins = append(policy.Plugins, doc.resolve(plugin, manifests.Read[plugin.Name]))
		}
	}
	doc.checkOrder(policy, manifests.Read)
	if len(doc.problems) > 0 || !config.sound {
		doc.problems.sort()
		return nil, doc.problems
	}
	sortPlugins(policy)
	return policy, nil
}

func pluginKey(name string) toml.Key {
	return toml.Key{"plugins", name}
}

// checkManifest says whether the plugin has a manifest, its own.
func (d *document) checkManifest(plugin PluginConfig, manifests Manifests) bool {
	key := pluginKey(plugin.Name)
	manifest := manifests.Read[plugin.Name]
	if manifest == nil {
		p := d.problem(key, fmt.Sprintf("no manifest from %s: is the plugin installed there?", plugin.Path))
		if err := manifests.Unread[plugin.Name]; err != nil {
			p.Message = err.Error()
		}
		if !slices.Contains(manifests.Installed, plugin.Name) {
			p.Suggestion = nearest(plugin.Name, manifests.Installed)
		}
		d.report(p)
		return false
	}
	if manifest.GetName() != plugin.Name {
		d.report(d.problem(key, fmt.Sprintf("%s is the program of another plugin, %q", plugin.Path, manifest.GetName())))
		return false
	}
	return true
}

func (d *document) resolve(plugin PluginConfig, manifest *proto.Manifest) Plugin {
	key := append(pluginKey(plugin.Name), "config")
	return Plugin{
		Name:         plugin.Name,
		Path:         plugin.Path,
		SHA256:       plugin.SHA256,
		Timeout:      plugin.Timeout,
		OnFailure:    cmp.Or(plugin.OnFailure, manifest.GetOnFailure()),
		SettingsJSON: d.settings(key, plugin.settings, manifest.GetSettings()),
	}
}

// checkOrder reports each two plugins that take the same syscall while the order does not have both.
func (d *document) checkOrder(policy *Policy, manifests map[string]*proto.Manifest) {
	for i, second := range policy.Plugins {
		for _, first := range policy.Plugins[:i] {
			shared := sharedSyscalls(manifests[first.Name], manifests[second.Name])
			if len(shared) == 0 || ordered(policy, first.Name) && ordered(policy, second.Name) {
				continue
			}
			p := d.problem(toml.Key{"broker", "order"}, fmt.Sprintf(
				"%s and %s both take %s: say which is asked first, such as order = [%q, %q]",
				first.Name, second.Name, strings.Join(shared, ", "), first.Name, second.Name))
			if p.Line == 0 {
				p.Line, p.Column = d.place(pluginKey(second.Name))
			}
			d.report(p)
		}
	}
}

func sharedSyscalls(a, b *proto.Manifest) (names []string) {
	for _, s := range a.GetSyscalls() {
		if slices.ContainsFunc(b.GetSyscalls(), func(t *proto.Syscall) bool { return t.GetName() == s.GetName() }) {
			names = append(names, s.GetName())
		}
	}
	return names
}

func ordered(policy *Policy, name string) bool {
	return slices.Contains(policy.Broker.Order, name)
}

// sortPlugins puts the ordered plugins first, in their order. The others share no syscall, so that their order, by name,
// means nothing.
func sortPlugins(policy *Policy) {
	rank := func(p Plugin) int {
		if i := slices.Index(policy.Broker.Order, p.Name); i >= 0 {
			return i
		}
		return len(policy.Broker.Order)
	}
	slices.SortStableFunc(policy.Plugins, func(a, b Plugin) int { return rank(a) - rank(b) })
}
