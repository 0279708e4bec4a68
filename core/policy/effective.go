package policy

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/intercede/intercede/core/policy/config"
)

// Effective is what the policy gives one container, and why.
type Effective struct {
	Description Description         `json:"container"` // as the rules saw it
	Rules       []RuleOutcome       `json:"rules"`     // in the order of the config
	Plugins     []PluginState       `json:"plugins"`   // those that some container may have, in the order in which they are asked
	Ignored     []IgnoredAnnotation `json:"ignored"`
}

// RuleOutcome reports whether a rule matches the container.
type RuleOutcome struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Key     string `json:"key"` // "container[0]" is the first rule
	Matches bool   `json:"matches"`
	Why     string `json:"why,omitempty"` // it does not match
}

// PluginState is a plugin as the container has it.
type PluginState struct {
	Name     string         `json:"name"`
	Enabled  bool           `json:"enabled"`
	Origin   Origin         `json:"origin"`   // of Enabled
	Settings []SettingState `json:"settings"` // every setting of the manifest, by key

	declared           declarations
	withoutAnnotations []SettingState // nil: no annotation has changed one
}

// SettingState is a setting as the container has it.
type SettingState struct {
	Key    string          `json:"key"`
	Value  json.RawMessage `json:"value"` // canonical: equal values are equal text
	Origin Origin          `json:"origin"`
}

// IgnoredAnnotation is one of the container's that would have switched a plugin or changed a setting.
type IgnoredAnnotation struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
	Bad    bool   `json:"bad"` // a rule accepts it, and its value is not acceptable, or the plugin refuses it
}

// Plugin is the state of the plugin if the container has it enabled, and nil otherwise.
func (e *Effective) Plugin(name string) *PluginState {
	if p := e.plugin(name); p != nil && p.Enabled {
		return p
	}
	return nil
}

func (e *Effective) plugin(name string) *PluginState {
	for i := range e.Plugins {
		if e.Plugins[i].Name == name {
			return &e.Plugins[i]
		}
	}
	return nil
}

// SettingsJSON is every setting, for wire.AttachRequest; equal settings are equal text.
func (p *PluginState) SettingsJSON() string {
	members := map[string]json.RawMessage{}
	for _, s := range p.Settings {
		members[s.Key] = s.Value
	}
	text, _ := json.Marshal(members) // the values are JSON
	return string(text)
}

// Fallback is SettingsJSON without what annotations changed; empty if they changed nothing.
func (p *PluginState) Fallback() string {
	if p.withoutAnnotations == nil {
		return ""
	}
	return (&PluginState{Settings: p.withoutAnnotations}).SettingsJSON()
}

// FallBack takes back what annotations changed of the plugin's settings, which the plugin refuses for this reason.
func (e *Effective) FallBack(plugin, reason string) {
	p := e.plugin(plugin)
	if p == nil || p.withoutAnnotations == nil {
		return
	}
	for _, s := range p.Settings {
		ignored := func(a IgnoredAnnotation) bool { return a.Name == s.Origin.Annotation }
		if s.Origin.Annotation != "" && !slices.ContainsFunc(e.Ignored, ignored) { // one may have changed several
			e.Ignored = append(e.Ignored, IgnoredAnnotation{Name: s.Origin.Annotation, Reason: firstFault(reason), Bad: true})
		}
	}
	p.Settings, p.withoutAnnotations = p.withoutAnnotations, nil
}

// setting is the one with the key, which the manifest declares.
func (p *PluginState) setting(key string) *SettingState {
	i, _ := slices.BinarySearchFunc(p.Settings, key, func(s SettingState, key string) int { return strings.Compare(s.Key, key) })
	return &p.Settings[i]
}

// For is what the container gets: the [plugins] table, then what the rules that match it say, in their order, then its
// own annotations, as far as the last of these rules with accept_annotations accepts them.
func (p *Policy) For(d Description) *Effective {
	d = d.Completed()
	e := &Effective{Description: d, Rules: []RuleOutcome{}, Ignored: []IgnoredAnnotation{}, Plugins: []PluginState{}}
	for _, plugin := range p.Plugins {
		state := plugin.state
		state.Settings = slices.Clone(state.Settings)
		e.Plugins = append(e.Plugins, state)
	}
	accepted := map[string]Origin{}
	for _, r := range p.rules {
		outcome := r.outcome(&d)
		e.Rules = append(e.Rules, outcome)
		if !outcome.Matches {
			continue
		}
		e.applyRule(r)
		if r.accepts {
			accepted = r.accept
		}
	}
	e.applyAnnotations(accepted)
	return e
}

func (e *Effective) applyRule(r resolvedRule) {
	for _, layer := range r.layers {
		p := e.plugin(layer.plugin)
		if layer.enabled != nil {
			p.Enabled, p.Origin = *layer.enabled, layer.origin
		}
		for _, s := range layer.settings {
			*p.setting(s.Key) = s
		}
	}
}

// applyAnnotations applies those of the container's annotations that are accepted. Their values are anybody's.
func (e *Effective) applyAnnotations(accepted map[string]Origin) {
	for _, a := range config.Annotations {
		text := e.Description.Annotations[a.Name]
		p := e.plugin(a.Plugin)
		if text == "" || p == nil {
			continue
		}
		origin, ok := accepted[a.Name]
		err := errNotAccepted
		if ok {
			err = apply(a, p, text, origin)
		}
		if err != nil {
			e.Ignored = append(e.Ignored, IgnoredAnnotation{Name: a.Name, Reason: err.Error(), Bad: ok})
		}
	}
}
