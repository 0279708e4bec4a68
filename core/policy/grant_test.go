package policy

import (
	"testing"

	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/wire"
)

// keys is a plugin that asks for a capability and a system call.
func keys(more ...string) Manifests {
	m := &wire.Manifest{
		Name: "keys", Version: "1", Syscalls: syscalls("keyctl"), Capabilities: []string{"CAP_SYS_ADMIN"},
		Uses: &wire.Uses{Syscalls: append([]string{"keyctl"}, more...)}, OnFailure: verdict(1),
	}
	return Manifests{Read: map[string]*wire.Manifest{"keys": m}, Installed: []string{"keys"}}
}

func TestGrant(t *testing.T) {
	const line = `grant = { capabilities = ["CAP_SYS_ADMIN"], syscalls = ["keyctl"] }`
	for name, test := range map[string]struct {
		text string
		more string // that the manifest asks for too
		want []string
	}{
		"all":          {text: "[plugins.keys]\n" + line},
		"the manifest": {text: "[plugins.keys]\ngrant = \"manifest\"\n", more: "syslog"},
		"nothing": {text: "broker.rate = 1\n[plugins.keys]\n", want: []string{
			"config.toml:2:1: plugins.keys: the plugin asks for what is not granted: capabilities CAP_SYS_ADMIN; system calls keyctl; " +
				"if it may have all that it asks for, write [plugins.keys] with " + line}},
		"a new program asks for more": {text: "[plugins.keys]\n" + line, more: "syslog", want: []string{
			"config.toml:2:1: plugins.keys.grant: the plugin asks for what is not granted: system calls syslog; " +
				`if it may have all that it asks for, write grant = { capabilities = ["CAP_SYS_ADMIN"], syscalls = ["keyctl", "syslog"] }`}},
		"a rule alone switches it on": {text: "[[container]]\nplugins.keys.enabled = true\n", want: []string{
			"config.toml:2:1: container[0].plugins.keys: the plugin asks for what is not granted: " +
				"capabilities CAP_SYS_ADMIN; system calls keyctl; " +
				"if it may have all that it asks for, write [plugins.keys] with enabled = false and " + line}},
		"it is not used": {text: "[plugins.keys]\nenabled = false\n"},
	} {
		t.Run(name, func(t *testing.T) {
			doc, problems := config.Parse(test.text, "config.toml", config.Options{})
			check(t, problems)
			var more []string
			if test.more != "" {
				more = []string{test.more}
			}
			_, problems = Resolve(doc, keys(more...))
			check(t, problems, test.want...)
		})
	}
}
