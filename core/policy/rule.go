package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/wire"
)

// declarations are the settings of a manifest, by key.
type declarations map[string]*wire.Setting

func declarationsOf(m *wire.Manifest) declarations {
	declared := declarations{}
	for _, s := range m.GetSettings() {
		declared[s.GetKey()] = s
	}
	return declared
}

// resolvedRule is a rule that was held against the manifests.
type resolvedRule struct {
	match   []config.Condition
	at      Origin
	layers  []layer
	accepts bool
	accept  map[string]Origin // names of annotations
}

// layer is what a rule changes about a plugin.
type layer struct {
	plugin   string
	enabled  *bool
	origin   Origin // of enabled
	settings []SettingState
}

// outcome reports whether all conditions hold.
func (r resolvedRule) outcome(d *Description) RuleOutcome {
	o := RuleOutcome{File: r.at.File, Line: r.at.Line, Key: r.at.Key, Matches: true}
	for _, condition := range r.match {
		if why := mismatch(condition, d); why != "" {
			o.Matches, o.Why = false, why
			break
		}
	}
	return o
}

// rules holds the rules against the plugins that some container may have.
func (r *resolver) rules() []resolvedRule {
	var resolved []resolvedRule
	for _, rule := range r.doc.Rules {
		resolved = append(resolved, r.rule(rule))
	}
	return resolved
}

func (r *resolver) rule(rule config.Rule) resolvedRule {
	resolved := resolvedRule{match: rule.Match, at: r.origin(rule.At), accepts: rule.Accepts, accept: map[string]Origin{}}
	for _, p := range rule.Plugins {
		if manifest := r.usedManifest(p.At, p.Name); manifest != nil {
			resolved.layers = append(resolved.layers, r.layer(p, manifest))
		}
	}
	for _, a := range rule.Accept {
		if r.checkAccept(rule, a) {
			origin := r.origin(rule.AcceptAt())
			origin.Annotation = a.Name
			resolved.accept[a.Name] = origin
		}
	}
	return resolved
}

// usedManifest is the manifest of a plugin that a rule names. It is nil for one that no container has: what is said of
// it is not looked at if it has a [plugins.NAME], and otherwise the name is wrong, or its switch is missing.
func (r *resolver) usedManifest(at config.Key, name string) *wire.Manifest {
	plugin := r.doc.Plugin(name)
	if plugin == nil {
		r.report(r.nothingEnables(at, name))
		return nil
	}
	if !plugin.Used || !r.hasManifest(plugin) {
		return nil
	}
	return r.manifests.Read[name]
}

func (r *resolver) nothingEnables(at config.Key, name string) config.Problem {
	p := r.doc.Problem(at, fmt.Sprintf("nothing switches plugin %s on: want enabled = true in this rule or another, or a [plugins.%s]", name, name))
	if !slices.Contains(r.manifests.Installed, name) {
		known := slices.Clone(r.manifests.Installed)
		for _, plugin := range r.doc.Plugins {
			known = append(known, plugin.Name)
		}
		p.Suggestion = config.Nearest(name, known)
	}
	return p
}

func (r *resolver) layer(p config.RulePlugin, manifest *wire.Manifest) layer {
	l := layer{plugin: p.Name, enabled: p.Enabled, origin: r.origin(append(slices.Clone(p.At), "enabled"))}
	path := append(slices.Clone(p.At), "config")
	values := r.settings(path, p.Settings, manifest)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		l.settings = append(l.settings, SettingState{key, values[key], r.origin(append(slices.Clone(path), key))})
	}
	return l
}

// checkAccept reports whether an annotation that the rule accepts has a plugin with the setting that it changes.
func (r *resolver) checkAccept(rule config.Rule, a config.Annotation) bool {
	manifest := r.usedManifest(rule.AcceptAt(), a.Plugin)
	if manifest == nil {
		return false
	}
	if a.Setting == "" {
		return true
	}
	if s := declarationsOf(manifest)[a.Setting]; s == nil || s.GetType() != a.Type {
		r.report(r.doc.Problem(rule.AcceptAt(), fmt.Sprintf("%s: plugin %s %s has no such setting: %s", a.Name, a.Plugin, manifest.GetVersion(), a.Setting)))
		return false
	}
	return true
}

// widest are the settings of a plugin in which each has a value other than its type's zero if some container may have
// such a one.
func widest(base PluginState, rules []resolvedRule) string {
	base.Settings = slices.Clone(base.Settings)
	widen := func(key string, value json.RawMessage) {
		switch s := base.setting(key); {
		case slices.Contains(zeros, string(s.Value)):
			s.Value = value
		case !slices.Contains(zeros, string(value)):
			s.Value = joined(s.Value, value)
		}
	}
	for _, r := range rules {
		for _, l := range r.layers {
			if l.plugin != base.Name {
				continue
			}
			for _, s := range l.settings {
				widen(s.Key, s.Value)
			}
		}
		for _, a := range config.Annotations {
			if _, accepted := r.accept[a.Name]; accepted && a.Plugin == base.Name && a.Setting != "" {
				widen(a.Setting, nonZero[a.Type])
			}
		}
	}
	return base.SettingsJSON()
}

// joined has the elements of both lists, and is the first value of other types.
func joined(a, b json.RawMessage) json.RawMessage {
	var first, second []string
	if json.Unmarshal(a, &first) != nil || json.Unmarshal(b, &second) != nil {
		return a
	}
	text, _ := json.Marshal(append(first, second...)) // strings
	return text
}

// zeros are the zero values of the settings' types, in canonical form.
var zeros = []string{"false", "0", `""`, "[]", "{}"}

// nonZero has another value of each type that an annotation sets.
var nonZero = map[wire.Setting_Type]json.RawMessage{
	wire.Setting_TYPE_BOOL:        json.RawMessage("true"),
	wire.Setting_TYPE_STRING_LIST: json.RawMessage(`["x"]`),
	wire.Setting_TYPE_STRING_MAP:  json.RawMessage(`{"x":"x"}`),
}
