package policy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/intercede/intercede/internal/wire"
)

// Manifests are what is known of plugins, by name.
type Manifests struct {
	Read      map[string]*wire.Manifest // those that wire.CheckManifest has accepted
	Unread    map[string]error          // why there is none of a plugin that some container may have
	Installed []string                  // names of plugins, to guess what a misspelt one means
}

// Resolve holds the config against the manifests. There must be one for each plugin that some container may have. The
// Policy is nil if this stage or [Parse] found problems.
func Resolve(config *Config, manifests Manifests) (*Policy, Problems) {
	doc := &document{places: config.places}
	policy := &Policy{Broker: config.Broker}
	for _, plugin := range config.Plugins {
		if plugin.Used && doc.checkManifest(&plugin, manifests) {
			policy.Plugins = append(policy.Plugins, doc.resolve(plugin, manifests.Read[plugin.Name]))
		}
	}
	doc.checkOrder(policy, manifests.Read)
	policy.rules = doc.rules(config, manifests)
	if len(doc.problems) > 0 || !config.sound {
		doc.problems.sort()
		return nil, doc.problems
	}
	for i := range policy.Plugins {
		p := &policy.Plugins[i]
		p.WidestJSON = widest(p.state, policy.rules)
	}
	sortPlugins(policy)
	return policy, nil
}

func pluginKey(name string) toml.Key {
	return toml.Key{"plugins", name}
}

// checkManifest says whether the plugin has a manifest, its own.
func (d *document) checkManifest(plugin *PluginConfig, manifests Manifests) bool {
	if isManifestOf(plugin, manifests) {
		return true
	}
	manifest := manifests.Read[plugin.Name]
	if manifest != nil {
		d.report(d.problem(plugin.path, fmt.Sprintf("%s is the program of another plugin, %q", plugin.Path, manifest.GetName())))
		return false
	}
	p := d.problem(plugin.path, fmt.Sprintf("no manifest from %s: is the plugin installed there?", plugin.Path))
	if err := manifests.Unread[plugin.Name]; err != nil {
		p.Message = err.Error()
	}
	if !slices.Contains(manifests.Installed, plugin.Name) {
		p.Suggestion = nearest(plugin.Name, manifests.Installed)
	}
	d.report(p)
	return false
}

func isManifestOf(plugin *PluginConfig, manifests Manifests) bool {
	manifest := manifests.Read[plugin.Name]
	return manifest != nil && manifest.GetName() == plugin.Name
}

func (d *document) resolve(plugin PluginConfig, manifest *wire.Manifest) Plugin {
	state := PluginState{Name: plugin.Name, Enabled: plugin.Enabled, declared: declarationsOf(manifest)}
	state.Origin = d.enabledOrigin(plugin.Name)
	path := append(pluginKey(plugin.Name), "config")
	values := d.settings(path, plugin.settings, manifest.GetSettings())
	for _, key := range slices.Sorted(maps.Keys(state.declared)) {
		s := SettingState{Key: key}
		if value, given := values[key]; given {
			s.Value, s.Origin = value, d.origin(append(slices.Clone(path), key))
		} else if value, err := canonical(json.RawMessage(state.declared[key].GetDefaultJson())); err != nil {
			d.report(d.problem(plugin.path, fmt.Sprintf("default of setting %s: %v", key, err)))
		} else {
			s.Value = value
		}
		state.Settings = append(state.Settings, s)
	}
	return Plugin{
		Name:         plugin.Name,
		Path:         plugin.Path,
		SHA256:       plugin.SHA256,
		Timeout:      plugin.Timeout,
		OnFailure:    cmp.Or(plugin.OnFailure, manifest.GetOnFailure()),
		Enabled:      plugin.Enabled,
		SettingsJSON: state.SettingsJSON(),
		state:        state,
	}
}

// enabledOrigin is where it stands whether the plugin is enabled where no rule says so.
func (d *document) enabledOrigin(name string) Origin {
	for _, key := range []toml.Key{append(pluginKey(name), "enabled"), pluginKey(name)} {
		if o := d.origin(key); o.Line > 0 {
			return o
		}
	}
	return Origin{}
}

// checkOrder reports each two plugins that take the same syscall while the order does not have both.
func (d *document) checkOrder(policy *Policy, manifests map[string]*wire.Manifest) {
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

func sharedSyscalls(a, b *wire.Manifest) (names []string) {
	for _, s := range a.GetSyscalls() {
		if slices.ContainsFunc(b.GetSyscalls(), func(t *wire.Syscall) bool { return t.GetName() == s.GetName() }) {
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
