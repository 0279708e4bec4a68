package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/intercede/intercede/internal/wire"
)

// ruleTable is the name of the array of tables that has the rules.
const ruleTable = "container"

// rulePart is the first part of the keys of rule i.
func rulePart(i int) string { return fmt.Sprintf("%s[%d]", ruleTable, i) }

// rule is a [[container]] table as it stands in the config.
type rule struct {
	path    toml.Key
	match   []condition // all must hold
	plugins []rulePlugin
	accept  []string // names of annotations
	accepts bool     // the rule has a list of them
}

// rulePlugin is what a rule says of a plugin.
type rulePlugin struct {
	path     toml.Key
	name     string
	enabled  *bool          // nil: as it was
	settings map[string]any // as toml.Decode gives them
}

// readRules reads the [[container]] tables.
func readRules(root *table) []rule {
	value, ok := root.get(ruleTable)
	if !ok {
		return nil
	}
	tables, ok := tablesOf(value)
	if !ok {
		root.fault(ruleTable, "%s: want [[container]] tables, with two brackets", literal(value))
		return nil
	}
	var rules []rule
	for i, values := range tables {
		rules = append(rules, readRule(&table{doc: root.doc, path: toml.Key{rulePart(i)}, values: values}))
	}
	return rules
}

// tablesOf is an array of tables, as toml.Decode gives it.
func tablesOf(value any) (tables []map[string]any, ok bool) {
	if tables, ok = value.([]map[string]any); ok {
		return tables, true
	}
	list, ok := value.([]any)
	for _, element := range list {
		values, isTable := element.(map[string]any)
		tables, ok = append(tables, values), ok && isTable
	}
	return tables, ok
}

func readRule(t *table) rule {
	r := rule{path: t.path, match: readMatch(t.table("match"))}
	plugins := t.table("plugins")
	for _, name := range plugins.names() {
		if err := wire.CheckPluginName(name); err != nil {
			plugins.fault(name, "%v", err)
			continue
		}
		r.plugins = append(r.plugins, readRulePlugin(plugins.table(name), name))
	}
	t.choice("accept_annotations", &r.accept, annotationNames)
	_, r.accepts = t.values["accept_annotations"]
	if len(plugins.values) == 0 && !r.accepts {
		t.doc.report(t.doc.problem(t.path, "the rule changes nothing: give it plugins.NAME or accept_annotations"))
	}
	t.finish()
	return r
}

func readRulePlugin(t *table, name string) rulePlugin {
	p := rulePlugin{path: t.path, name: name}
	var enabled bool
	if read(t, "enabled", &enabled, "true or false") {
		p.enabled = &enabled
	}
	p.settings = t.table("config").values
	if len(t.values) == 0 {
		t.doc.report(t.doc.problem(t.path, "the rule changes nothing: give the plugin enabled or config"))
	}
	t.finish()
	return p
}

// use marks the plugins that some container may have, and adds those of them that have no [plugins.NAME].
func (c *Config) use() {
	for i := range c.Plugins {
		c.Plugins[i].Used = c.Plugins[i].Enabled
	}
	for _, r := range c.rules {
		for _, p := range r.plugins {
			if p.enabled != nil && *p.enabled {
				c.usePlugin(p.name, p.path)
			}
		}
		for _, a := range annotations {
			if a.setting == "" && slices.Contains(r.accept, a.name) {
				c.usePlugin(a.plugin, append(slices.Clone(r.path), "accept_annotations"))
			}
		}
	}
	slices.SortFunc(c.Plugins, func(a, b PluginConfig) int { return strings.Compare(a.Name, b.Name) })
}

func (c *Config) usePlugin(name string, path toml.Key) {
	if p := c.plugin(name); p != nil {
		p.Used = true
		return
	}
	p := defaultPlugin(name, path, &c.Broker)
	p.Enabled, p.Used = false, true
	p.Path = from(c.Broker.PluginDir, p.Path)
	c.Plugins = append(c.Plugins, p)
}

func (c *Config) plugin(name string) *PluginConfig {
	for i := range c.Plugins {
		if c.Plugins[i].Name == name {
			return &c.Plugins[i]
		}
	}
	return nil
}
