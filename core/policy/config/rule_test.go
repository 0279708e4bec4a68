package config

import "testing"

// ruleProblems are the lines of what is wrong with the rules of a config.
var ruleProblems = map[string]struct {
	text string
	want []string
}{
	"one bracket": {"[container]\nmatch.id = \"x\"\n", []string{
		`config.toml:1:1: container: {"match":{"id":"x"}}: want [[container]] tables, with two brackets`}},
	"not tables": {"container = [1]\n", []string{
		`config.toml:1:1: container: [1]: want [[container]] tables, with two brackets`}},
	"none": {"container = []\n", nil},
	"unknown keys": {"[[container]]\nplugins.mknod.enabled = true\n[[container]]\nplugin.mknod.enabled = true\naccept_annotations = []\n" +
		"[container.match]\nnames = \"x\"\nuid = 1\n", []string{
		`config.toml:4:1: container[1].plugin: unknown key; did you mean "plugins"?`,
		`config.toml:7:1: container[1].match.names: unknown key; did you mean "name"?`,
		`config.toml:8:1: container[1].match.uid: unknown key; did you mean "id"?`}},
	"an inline array": {"container = [\n  { match.id = 1, plugins.mknod.enabled = true },\n  { match = { id = \"\" } },\n]\n", []string{
		"config.toml:2:5: container[0].match.id: 1: want a string",
		"config.toml:3:3: container[1]: the rule changes nothing: give it plugins.NAME or accept_annotations",
		`config.toml:3:15: container[1].match.id: "": matches no container: leave the key out to match every one`}},
	"changes nothing": {"[plugins.mknod]\n[[container]]\nmatch.id = \"x\"\n[[container]]\nplugins.mknod = {}\n", []string{
		"config.toml:2:1: container[0]: the rule changes nothing: give it plugins.NAME or accept_annotations",
		"config.toml:5:1: container[1].plugins.mknod: the rule changes nothing: give the plugin enabled or config"}},
	"globs": {"[[container]]\nplugins.mknod.enabled = true\n[container.match]\nid = \"[\"\nname = [\"a\", \"[z-a]\", \"[]\", 'x\\']\n" +
		"image = { a = 1 }\nannotations = { k = [], l = \"[!\", m = true }\nlabels = 1\n", []string{
		`config.toml:4:1: container[0].match.id: "[": a [ without its ]: write \[ for the character`,
		`config.toml:5:14: container[0].match.name[1]: "[z-a]": the range z-a runs backwards`,
		`config.toml:5:23: container[0].match.name[2]: "[]": [] has no characters between its brackets`,
		`config.toml:5:29: container[0].match.name[3]: "x\\": it ends in a \: write \\ for the character`,
		`config.toml:6:1: container[0].match.image: {"a":1}: want a pattern such as "build-*", or a list of them`,
		`config.toml:7:17: container[0].match.annotations.k: an empty list matches no container: want a pattern such as ` +
			`"build-*", or a list of them`,
		`config.toml:7:25: container[0].match.annotations.l: "[!": a [ without its ]: write \[ for the character`,
		`config.toml:7:35: container[0].match.annotations.m: true: want a string`,
		`config.toml:8:1: container[0].match.labels: 1: want a table`}},
	"peer": {"[[container]]\nmatch.peer_uid = [0, -1, \"1000\", 4294967295]\naccept_annotations = []\n", []string{
		"config.toml:2:22: container[0].match.peer_uid[1]: -1: want a user id, 0 to 4294967294",
		`config.toml:2:26: container[0].match.peer_uid[2]: "1000": want a user id, 0 to 4294967294`,
		"config.toml:2:34: container[0].match.peer_uid[3]: 4294967295: want a user id, 0 to 4294967294"}},
	"contradictions": {`
		[[container]]
		match = { runtime = "docker" }
		accept_annotations = []
		[[container]]
		match = { runtime = ["oci", "run"], cookie = "x" }
		accept_annotations = []
		[[container]]
		match = { runtime = "run", peer_uid = 0, cgroup = "user.slice/*" }
		accept_annotations = []
		[[container]]
		match = { runtime = "r*", peer_uid = 0 }
		accept_annotations = []
		[[container]]
		match = { runtime = "l?c", peer_uid = 0, cookie = "*", cgroup = "*/x" }
		accept_annotations = []`, []string{
		`config.toml:3:13: container[0].match.runtime: "docker": matches no container; accepted: lxc, oci, run`,
		`config.toml:6:39: container[1].match.cookie: matches no container: only those with runtime "lxc" have a cookie`,
		`config.toml:9:30: container[2].match.peer_uid: matches no container: those with runtime "run" come from no other process`,
		`config.toml:9:44: container[2].match.cgroup: "user.slice/*": matches no container: the path of a cgroup begins with /`,
		`config.toml:12:29: container[3].match.peer_uid: matches no container: those with runtime "run" come from no other process`}},
	"annotations": {"[[container]]\naccept_annotations = [\"security.syscalls.intercept.mknode\", 1]\n" +
		"[[container]]\naccept_annotations = \"security.syscalls.intercept.mknod\"\n", []string{
		`config.toml:2:23: container[0].accept_annotations[0]: "security.syscalls.intercept.mknode" is not one of them; ` +
			`did you mean "security.syscalls.intercept.mknod"?`,
		"config.toml:2:61: container[0].accept_annotations[1]: 1: want a string",
		`config.toml:4:1: container[1].accept_annotations: "security.syscalls.intercept.mknod": want a list of strings`}},
}

func TestRuleProblems(t *testing.T) {
	for name, test := range ruleProblems {
		t.Run(name, func(t *testing.T) {
			_, problems := Parse(test.text, "config.toml", Options{})
			check(t, problems, test.want...)
		})
	}
}

func TestUsedPlugins(t *testing.T) {
	config, problems := Parse(`
		broker.deadline = "3s"
		[plugins.on]
		[plugins.off]
		enabled = false
		[plugins.sometimes]
		enabled = false
		[[container]]
		plugins.sometimes.enabled = true
		plugins.off.enabled = false
		plugins.new.enabled = true
		accept_annotations = ["security.syscalls.intercept.sysinfo", "security.syscalls.intercept.mount.allowed"]`, "config.toml",
		Options{PluginDir: "/p"})
	check(t, problems)
	want := []struct {
		name          string
		enabled, used bool
	}{{"new", false, true}, {"off", false, false}, {"on", true, true}, {"sometimes", false, true}, {"sysinfo", false, true}}
	if len(config.Plugins) != len(want) {
		t.Fatalf("plugins %+v", config.Plugins)
	}
	for i, p := range config.Plugins {
		if p.Name != want[i].name || p.Enabled != want[i].enabled || p.Used != want[i].used {
			t.Errorf("plugin %+v, want %+v", p, want[i])
		}
		if p.Path != "/p/intercede-plugin-"+p.Name || p.Timeout != config.Broker.Deadline {
			t.Errorf("plugin %+v: want the defaults", p)
		}
	}
}
