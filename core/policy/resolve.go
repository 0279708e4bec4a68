package policy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/intercede/intercede/core/grant"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/wire"
)

// Manifests are what is known of plugins, by name.
type Manifests struct {
	Read      map[string]*wire.Manifest // those that wire.CheckManifest has accepted
	Unread    map[string]error          // why there is none of a plugin that some container may have
	Installed []string                  // names of plugins, to guess what a misspelt one means
}

// Resolve holds the config against the manifests. There must be one for each plugin that some container may have. The
// Policy is nil if this stage or [config.Parse] found problems.
func Resolve(doc *config.Document, manifests Manifests) (*Policy, config.Problems) {
	r := &resolver{doc: doc, manifests: manifests}
	policy := &Policy{Broker: doc.Broker, Audit: doc.Audit, doc: doc}
	for _, plugin := range doc.Plugins {
		if plugin.Used && r.checkManifest(&plugin) {
			policy.Plugins = append(policy.Plugins, r.plugin(plugin))
		}
	}
	r.checkOrder(policy)
	policy.rules = r.rules()
	if len(r.problems) > 0 || !doc.Sound {
		r.problems.Sort()
		return nil, r.problems
	}
	for i := range policy.Plugins {
		p := &policy.Plugins[i]
		p.WidestJSON = widest(p.state, policy.rules)
	}
	sortPlugins(policy)
	return policy, nil
}

// resolver holds a config against the manifests.
type resolver struct {
	doc       *config.Document
	manifests Manifests
	problems  config.Problems
}

func (r *resolver) report(p config.Problem) {
	r.problems = append(r.problems, p)
}

func (r *resolver) origin(key config.Key) Origin {
	at := r.doc.Place(key)
	return Origin{File: at.File, Line: at.Line, Key: at.Key}
}

// settings are those of a table, in canonical form.
func (r *resolver) settings(at config.Key, values map[string]any, manifest *wire.Manifest) map[string]json.RawMessage {
	settings, problems := r.doc.Settings(at, values, manifest.GetSettings())
	r.problems = append(r.problems, problems...)
	return settings
}

func pluginKey(name string) config.Key {
	return config.Key{"plugins", name}
}

// checkManifest reports whether the plugin has a manifest, its own.
func (r *resolver) checkManifest(plugin *config.Plugin) bool {
	if r.hasManifest(plugin) {
		r.checkGrant(plugin)
		r.checkVerdict(plugin)
		return true
	}
	manifest := r.manifests.Read[plugin.Name]
	if manifest != nil {
		r.report(r.doc.Problem(plugin.At, fmt.Sprintf("%s is the program of another plugin, %q", plugin.Path, manifest.GetName())))
		return false
	}
	p := r.doc.Problem(plugin.At, fmt.Sprintf("no manifest from %s: is the plugin installed there?", plugin.Path))
	if err := r.manifests.Unread[plugin.Name]; err != nil {
		p.Message = err.Error()
	}
	if !slices.Contains(r.manifests.Installed, plugin.Name) {
		p.Suggestion = config.Nearest(plugin.Name, r.manifests.Installed)
	}
	r.report(p)
	return false
}

// checkGrant reports what the manifest asks for and the config does not grant, with what the config would have to say.
func (r *resolver) checkGrant(plugin *config.Plugin) {
	manifest := r.manifests.Read[plugin.Name]
	err := plugin.Grant.Check(manifest)
	if err == nil {
		return
	}
	key := append(pluginKey(plugin.Name), "grant")
	line := "grant = " + grant.Asked(manifest).TOML()
	switch {
	case r.origin(key).Line > 0:
	case r.origin(pluginKey(plugin.Name)).Line > 0:
		key = pluginKey(plugin.Name)
		line = fmt.Sprintf("[plugins.%s] with %s", plugin.Name, line)
	default:
		key = plugin.At
		line = fmt.Sprintf("[plugins.%s] with enabled = false and %s", plugin.Name, line)
	}
	r.report(r.doc.Problem(key, fmt.Sprintf("%v; if it may have all that it asks for, write %s", err, line)))
}

// checkVerdict refuses a failure verdict with which the kernel would do what the plugin is there to refuse.
func (r *resolver) checkVerdict(plugin *config.Plugin) {
	if plugin.OnFailure.GetContinue() && r.manifests.Read[plugin.Name].GetNeverContinue() {
		r.report(r.doc.Problem(append(pluginKey(plugin.Name), "on_failure"), fmt.Sprintf(
			`"continue": the kernel would do for some callers what %s refuses: take the key out, or name an errno such as "EPERM"`, plugin.Name)))
	}
}

func (r *resolver) hasManifest(plugin *config.Plugin) bool {
	manifest := r.manifests.Read[plugin.Name]
	return manifest != nil && manifest.GetName() == plugin.Name
}

func (r *resolver) plugin(plugin config.Plugin) Plugin {
	manifest := r.manifests.Read[plugin.Name]
	state := PluginState{Name: plugin.Name, Enabled: plugin.Enabled, declared: declarationsOf(manifest)}
	state.Origin = r.enabledOrigin(plugin.Name)
	path := append(pluginKey(plugin.Name), "config")
	values := r.settings(path, plugin.Settings, manifest)
	for _, key := range slices.Sorted(maps.Keys(state.declared)) {
		s := SettingState{Key: key}
		if value, given := values[key]; given {
			s.Value, s.Origin = value, r.origin(append(slices.Clone(path), key))
		} else if value, err := config.Canonical(json.RawMessage(state.declared[key].GetDefaultJson())); err != nil {
			r.report(r.doc.Problem(plugin.At, fmt.Sprintf("default of setting %s: %v", key, err)))
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
		MemoryMax:    int64(plugin.MemoryMax) << 20,
		Grant:        plugin.Grant,
		Enabled:      plugin.Enabled,
		SettingsJSON: state.SettingsJSON(),
		state:        state,
	}
}

// enabledOrigin is where it stands whether the plugin is enabled where no rule says so.
func (r *resolver) enabledOrigin(name string) Origin {
	for _, key := range []config.Key{append(pluginKey(name), "enabled"), pluginKey(name)} {
		if o := r.origin(key); o.Line > 0 {
			return o
		}
	}
	return Origin{}
}

// checkOrder reports each two plugins that take the same syscall while the order does not have both.
func (r *resolver) checkOrder(policy *Policy) {
	for i, second := range policy.Plugins {
		for _, first := range policy.Plugins[:i] {
			shared := sharedSyscalls(r.manifests.Read[first.Name], r.manifests.Read[second.Name])
			if len(shared) == 0 || ordered(policy, first.Name) && ordered(policy, second.Name) {
				continue
			}
			p := r.doc.Problem(config.Key{"broker", "order"}, fmt.Sprintf(
				"%s and %s both take %s: say which is asked first, such as order = [%q, %q]",
				first.Name, second.Name, strings.Join(shared, ", "), first.Name, second.Name))
			if p.Line == 0 {
				at := r.doc.Place(pluginKey(second.Name))
				p.Line, p.Column = at.Line, at.Column
			}
			r.report(p)
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

// sortPlugins puts the ordered plugins first, in their order. The others share no syscall, so that their order, by
// name, means nothing.
func sortPlugins(policy *Policy) {
	rank := func(p Plugin) int {
		if i := slices.Index(policy.Broker.Order, p.Name); i >= 0 {
			return i
		}
		return len(policy.Broker.Order)
	}
	slices.SortStableFunc(policy.Plugins, func(a, b Plugin) int { return rank(a) - rank(b) })
}
