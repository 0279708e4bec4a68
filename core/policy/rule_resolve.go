package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/BurntSushi/toml"
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
	match   []condition
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

// outcome says whether all conditions hold.
func (r resolvedRule) outcome(c *Container) RuleOutcome {
	o := RuleOutcome{File: r.at.File, Line: r.at.Line, Key: r.at.Key, Matches: true}
	for _, condition := range r.match {
		if why := condition.mismatch(c); why != "" {
			o.Matches, o.Why = false, why
			break
		}
	}
	return o
}

// rules holds the rules against the plugins that some container may have.
func (d *document) rules(config *Config, manifests Manifests) []resolvedRule {
	var resolved []resolvedRule
	for _, r := range config.rules {
		rule := resolvedRule{match: r.match, at: d.origin(r.path), accepts: r.accepts, accept: map[string]Origin{}}
		for _, p := range r.plugins {
			if manifest := d.usedManifest(config, manifests, p.path, p.name); manifest != nil {
				rule.layers = append(rule.layers, d.layer(p, manifest))
			}
		}
		for i, name := range r.accept {
			if d.checkAccept(config, manifests, r, i) {
				rule.accept[name] = d.acceptOrigin(r, name)
			}
		}
		resolved = append(resolved, rule)
	}
	return resolved
}

func (d *document) origin(key toml.Key) Origin {
	o := Origin{File: d.file, Key: keyText(key)}
	o.Line, _ = d.place(key)
	return o
}

func (d *document) acceptOrigin(r rule, annotation string) Origin {
	o := d.origin(append(slices.Clone(r.path), "accept_annotations"))
	o.Annotation = annotation
	return o
}

// usedManifest is the manifest of a plugin that a rule names. It is nil for one that no container has: what is said of it
// is not looked at if it has a [plugins.NAME], and otherwise the name is wrong, or its switch is missing.
func (d *document) usedManifest(config *Config, manifests Manifests, path toml.Key, name string) *wire.Manifest {
	plugin := config.plugin(name)
	if plugin == nil {
		d.report(d.nothingEnables(config, manifests, path, name))
		return nil
	}
	if !plugin.Used || !isManifestOf(plugin, manifests) {
		return nil
	}
	return manifests.Read[name]
}

func (d *document) nothingEnables(config *Config, manifests Manifests, path toml.Key, name string) Problem {
	p := d.problem(path, fmt.Sprintf("nothing switches plugin %s on: want enabled = true in this rule or another, or a [plugins.%s]", name, name))
	if !slices.Contains(manifests.Installed, name) {
		known := slices.Clone(manifests.Installed)
		for _, plugin := range config.Plugins {
			known = append(known, plugin.Name)
		}
		p.Suggestion = nearest(name, known)
	}
	return p
}

func (d *document) layer(p rulePlugin, manifest *wire.Manifest) layer {
	l := layer{plugin: p.name, enabled: p.enabled, origin: d.origin(append(slices.Clone(p.path), "enabled"))}
	path := append(slices.Clone(p.path), "config")
	values := d.settings(path, p.settings, manifest.GetSettings())
	for _, key := range slices.Sorted(maps.Keys(values)) {
		l.settings = append(l.settings, SettingState{key, values[key], d.origin(append(slices.Clone(path), key))})
	}
	return l
}

// checkAccept says whether element i of the rule's list has a plugin with the setting that it changes.
func (d *document) checkAccept(config *Config, manifests Manifests, r rule, i int) bool {
	a := annotations[slices.Index(annotationNames, r.accept[i])]
	path := append(slices.Clone(r.path), "accept_annotations")
	manifest := d.usedManifest(config, manifests, path, a.plugin)
	if manifest == nil {
		return false
	}
	if a.setting == "" {
		return true
	}
	if s := declarationsOf(manifest)[a.setting]; s == nil || s.GetType() != a.kind {
		d.report(d.problem(path, fmt.Sprintf("%s: plugin %s %s has no such setting: %s", a.name, a.plugin, manifest.GetVersion(), a.setting)))
		return false
	}
	return true
}

// widest are the settings of a plugin in which each has a value other than its type's zero if some container may have such
// a one.
func widest(base PluginState, rules []resolvedRule) string {
	base.Settings = slices.Clone(base.Settings)
	widen := func(key string, value json.RawMessage) {
		if s := base.setting(key); slices.Contains(zeros, string(s.Value)) {
			s.Value = value
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
		for _, a := range annotations {
			if _, accepted := r.accept[a.name]; accepted && a.plugin == base.Name && a.setting != "" {
				widen(a.setting, nonZero[a.kind])
			}
		}
	}
	return base.SettingsJSON()
}

// zeros are the zero values of the settings' types, in canonical form.
var zeros = []string{"false", "0", `""`, "[]", "{}"}

// nonZero has another value of each type that an annotation sets.
var nonZero = map[wire.Setting_Type]json.RawMessage{
	isBool: json.RawMessage("true"), isList: json.RawMessage(`["x"]`), isMap: json.RawMessage(`{"x":"x"}`),
}
