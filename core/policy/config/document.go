// Package config reads config.toml: syntax, keys, types, ranges. It needs nothing but the text, and reports all its
// problems at once, with position, key path and what would be accepted. What it makes of the text is a [Document],
// which package policy holds against the plugins' manifests.
package config

import (
	"slices"
	"strings"
)

// Document is what a config says. Its plugins' settings have not been held against the manifests yet.
type Document struct {
	Broker     Broker
	OCIRuntime OCIRuntime
	Audit      Audit
	Plugins    []Plugin // by name: those with a [plugins.NAME], and those that only a rule switches on
	Rules      []Rule
	Sound      bool   // Parse found no problems
	SHA256     string // of the file, in hex; empty: the text is of none

	*places
	values map[string]any // as toml.Decode gives them
}

// Plugin is the plugin of this name; nil: the config does not have it.
func (d *Document) Plugin(name string) *Plugin {
	for i := range d.Plugins {
		if d.Plugins[i].Name == name {
			return &d.Plugins[i]
		}
	}
	return nil
}

// use marks the plugins that some container may have, and adds those of them that have no [plugins.NAME].
func (d *Document) use() {
	for i := range d.Plugins {
		d.Plugins[i].Used = d.Plugins[i].Enabled
	}
	for _, r := range d.Rules {
		for _, p := range r.Plugins {
			if p.Enabled != nil && *p.Enabled {
				d.usePlugin(p.Name, p.At)
			}
		}
		for _, a := range r.Accept {
			if a.Setting == "" {
				d.usePlugin(a.Plugin, r.AcceptAt())
			}
		}
	}
	slices.SortFunc(d.Plugins, func(a, b Plugin) int { return strings.Compare(a.Name, b.Name) })
}

func (d *Document) usePlugin(name string, at Key) {
	if p := d.Plugin(name); p != nil {
		p.Used = true
		return
	}
	p := defaultPlugin(name, at, &d.Broker)
	p.Enabled, p.Used = false, true
	p.Path = from(d.Broker.PluginDir, p.Path)
	d.Plugins = append(d.Plugins, p)
}
