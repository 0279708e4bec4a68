package policy

import (
	"testing"

	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/wire"
)

// resolvedRuleProblems are the lines of what is wrong with the rules of a config, in both stages.
var resolvedRuleProblems = map[string]struct {
	text string
	want []string
}{
	"unknown keys of a plugin": {"[plugins.mknod]\n[[container]]\n[container.plugins.mknod]\nenabled = 1\ntimeout = \"1s\"\n" +
		"config.device = [\"c 1:3\"]\n", []string{
		"config.toml:4:1: container[0].plugins.mknod.enabled: 1: want true or false",
		"config.toml:5:1: container[0].plugins.mknod.timeout: unknown key; accepted: enabled, config",
		`config.toml:6:1: container[0].plugins.mknod.config.device: unknown key; did you mean "devices"?`}},
	"settings": {"[plugins.mknod]\n[plugins.sysinfo]\n[[container]]\nplugins.sysinfo.config.loads = \"hots\"\n" +
		"[[container]]\nplugins.mknod.config.devices = [\n \"c 1:3\", \"c 1;3\"]\n", []string{
		`config.toml:4:1: container[0].plugins.sysinfo.config.loads: "hots": want "host" or "container"`,
		`config.toml:7:11: container[1].plugins.mknod.config.devices[1]: "c 1;3": want something like "c 1:3"`}},
	"plugins that are not there": {"[plugins.mknod]\n[[container]]\nplugins.mknode.enabled = true\n" +
		"[[container]]\nplugins.sysinf.config.loads = \"host\"\nplugins.Bad.enabled = true\n[[container]]\n" +
		"accept_annotations = [\"security.syscalls.intercept.sched_setscheduler\", \"security.syscalls.intercept.bpf.devices\"]\n", []string{
		`config.toml:3:1: container[0].plugins.mknode: no manifest from /p/intercede-plugin-mknode: is the plugin installed there?; ` +
			`did you mean "mknod"?`,
		`config.toml:5:1: container[1].plugins.sysinf: nothing switches plugin sysinf on: want enabled = true in this rule or another, ` +
			`or a [plugins.sysinf]; did you mean "sysinfo"?`,
		`config.toml:6:1: container[1].plugins.Bad: plugin name "Bad": want a lower-case letter, then lower-case letters, digits and underscores`,
		`config.toml:8:1: container[2].accept_annotations: no manifest from /p/intercede-plugin-sched: is the plugin installed there?`,
		"config.toml:8:1: container[2].accept_annotations: nothing switches plugin bpf on: want enabled = true in this rule " +
			"or another, or a [plugins.bpf]"}},
	"what no container has is not looked at": {"[plugins.mknod]\nenabled = false\n[[container]]\nplugins.mknod.config.device = 1\n" +
		"[[container]]\nplugins.mknod.enabled = false\n", nil},
	"a plugin that only a rule switches on is looked at": {"[plugins.mknod]\nenabled = false\nconfig.device = 1\n" +
		"[[container]]\nplugins.mknod.enabled = true\n", []string{
		`config.toml:3:1: plugins.mknod.config.device: unknown key; did you mean "devices"?`}},
	"two plugins of which a rule switches one on": {"[plugins.one]\n[[container]]\nplugins.two.enabled = true\n", []string{
		`config.toml: broker.order: one and two both take setxattr, lsetxattr: say which is asked first, such as order = ["one", "two"]`}},
}

func TestResolvedRuleProblems(t *testing.T) {
	manifests := testManifests(t)
	for name, test := range resolvedRuleProblems {
		t.Run(name, func(t *testing.T) {
			doc, problems := config.Parse(test.text, "config.toml", config.Options{PluginDir: "/p"})
			policy, more := Resolve(doc, manifests)
			problems = append(problems, more...)
			problems.Sort()
			check(t, problems, test.want...)
			if (policy == nil) != (len(test.want) > 0) {
				t.Errorf("policy %v with problems %v", policy, problems)
			}
		})
	}
}

// A plugin whose settings are not those that the annotation is about.
func TestAcceptAnnotationOfOtherPlugin(t *testing.T) {
	doc, problems := config.Parse("[plugins.bpf]\n[[container]]\naccept_annotations = [\"security.syscalls.intercept.bpf.devices\"]",
		"config.toml", config.Options{})
	check(t, problems)
	for name, settings := range map[string][]*wire.Setting{
		"none":         nil,
		"another type": {{Key: "devices", Type: wire.Setting_TYPE_STRING_LIST, DefaultJson: "[]"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, problems := Resolve(doc, Manifests{Read: map[string]*wire.Manifest{"bpf": {Name: "bpf", Version: "9", Settings: settings}}})
			check(t, problems, "config.toml:3:1: container[0].accept_annotations: security.syscalls.intercept.bpf.devices: "+
				"plugin bpf 9 has no such setting: devices")
		})
	}
}
