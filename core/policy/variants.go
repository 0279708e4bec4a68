package policy

import (
	"slices"

	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/wire"
)

// Variant is what some container can have of a plugin, as far as the config alone says: the plugin is to be asked
// whether it serves that.
type Variant struct {
	Plugin       string
	SettingsJSON string // every setting

	state PluginState
	doc   *config.Document
	at    config.Key // where the config first wants the plugin
}

// Variants are what the table of each plugin gives, and what each rule makes of it together with the rules that match
// whatever it matches. Of rules of which a container matches both by chance alone nothing is known here.
func (p *Policy) Variants() []Variant {
	var variants []Variant
	for _, plugin := range p.Plugins {
		variants = append(variants, p.variantsOf(&plugin)...)
	}
	return variants
}

func (p *Policy) variantsOf(plugin *Plugin) []Variant {
	var found []Variant
	add := func(rules []resolvedRule) {
		e := &Effective{Plugins: []PluginState{plugin.state}}
		state := &e.Plugins[0]
		state.Settings = slices.Clone(state.Settings)
		for _, r := range rules {
			r.layers = slices.DeleteFunc(slices.Clone(r.layers), func(l layer) bool { return l.plugin != plugin.Name })
			e.applyRule(r)
		}
		v := Variant{Plugin: plugin.Name, SettingsJSON: state.SettingsJSON(), state: *state, doc: p.doc, at: p.doc.Plugin(plugin.Name).At}
		known := slices.ContainsFunc(found, func(o Variant) bool { return o.SettingsJSON == v.SettingsJSON })
		if !known && (state.Enabled || enabledByAnnotation(rules, plugin.Name)) {
			found = append(found, v)
		}
	}
	add(p.rulesWith(nil))
	for _, r := range p.rules {
		add(p.rulesWith(r.match))
	}
	return found
}

// rulesWith are the rules that match every container for which these conditions hold.
func (p *Policy) rulesWith(conditions []config.Condition) (rules []resolvedRule) {
	for _, r := range p.rules {
		implied := func(c config.Condition) bool { return slices.ContainsFunc(conditions, c.Equals) }
		if !slices.ContainsFunc(r.match, func(c config.Condition) bool { return !implied(c) }) {
			rules = append(rules, r)
		}
	}
	return rules
}

// enabledByAnnotation reports whether an annotation that the rules accept switches the plugin on.
func enabledByAnnotation(rules []resolvedRule, plugin string) (enabled bool) {
	for _, r := range rules {
		if !r.accepts {
			continue
		}
		enabled = false
		for _, a := range config.Annotations {
			if _, accepted := r.accept[a.Name]; accepted && a.Plugin == plugin && a.Setting == "" {
				enabled = true
			}
		}
	}
	return enabled
}

// Problem says what the plugin has found, at the setting's place in the config.
func (v *Variant) Problem(f *wire.Finding) config.Problem {
	problem := v.doc.Problem(v.at, f.GetText())
	for _, s := range v.state.Settings {
		switch {
		case s.Key != f.GetKey():
		case s.Origin.Line > 0:
			problem = v.doc.ProblemAt(s.Origin.Key, f.GetText())
		default:
			problem.Message = s.Key + ", which has its default: " + problem.Message
		}
	}
	problem.Warning = f.GetWarning()
	return problem
}
