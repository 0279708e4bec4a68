package config

import (
	"fmt"
	"slices"

	"github.com/intercede/intercede/internal/wire"
)

// ruleTable is the name of the array of tables that has the rules.
const ruleTable = "container"

// acceptKey is the key of a rule that lists annotations.
const acceptKey = "accept_annotations"

// rulePart is the first part of the keys of rule i.
func rulePart(i int) string { return fmt.Sprintf("%s[%d]", ruleTable, i) }

// Rule is a [[container]] table.
type Rule struct {
	At      Key
	Match   []Condition // all must hold
	Plugins []RulePlugin
	Accept  []Annotation
	Accepts bool // the rule has a list of them
}

// AcceptAt is where the rule says which annotations it accepts.
func (r *Rule) AcceptAt() Key { return append(slices.Clone(r.At), acceptKey) }

// RulePlugin is what a rule says of a plugin.
type RulePlugin struct {
	At       Key
	Name     string
	Enabled  *bool          // nil: as it was
	Settings map[string]any // as toml.Decode gives them
}

// readRules reads the [[container]] tables.
func readRules(root *table) []Rule {
	value, ok := root.get(ruleTable)
	if !ok {
		return nil
	}
	tables, ok := tablesOf(value)
	if !ok {
		root.fault(ruleTable, "%s: want [[container]] tables, with two brackets", literal(value))
		return nil
	}
	var rules []Rule
	for i, values := range tables {
		rules = append(rules, readRule(&table{reader: root.reader, path: Key{rulePart(i)}, values: values}))
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

func readRule(t *table) Rule {
	r := Rule{At: t.path, Match: readMatch(t.table("match"))}
	plugins := t.table("plugins")
	for _, name := range plugins.names() {
		if err := wire.CheckPluginName(name); err != nil {
			plugins.fault(name, "%v", err)
			continue
		}
		r.Plugins = append(r.Plugins, readRulePlugin(plugins.table(name), name))
	}
	r.Accept = readAnnotations(t)
	_, r.Accepts = t.values[acceptKey]
	if len(plugins.values) == 0 && !r.Accepts {
		t.reader.report(t.reader.Problem(t.path, "the rule changes nothing: give it plugins.NAME or accept_annotations"))
	}
	t.finish()
	return r
}

func readRulePlugin(t *table, name string) RulePlugin {
	p := RulePlugin{At: t.path, Name: name}
	var enabled bool
	if read(t, "enabled", &enabled, "true or false") {
		p.Enabled = &enabled
	}
	p.Settings = t.table("config").values
	if len(t.values) == 0 {
		t.reader.report(t.reader.Problem(t.path, "the rule changes nothing: give the plugin enabled or config"))
	}
	t.finish()
	return p
}
