package policy

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/intercede/intercede/core/policy/config"
)

// samePolicy compares what the policies say, not where it stands.
func samePolicy(a, b *Policy) bool {
	return fmt.Sprintf("%+v", withoutOrigins(a)) == fmt.Sprintf("%+v", withoutOrigins(b))
}

func withoutOrigins(p *Policy) Policy {
	bare := Policy{Broker: p.Broker}
	for _, plugin := range p.Plugins {
		plugin.state = PluginState{}
		bare.Plugins = append(bare.Plugins, plugin)
	}
	return bare
}

// FuzzResolve: no config makes Resolve panic; every problem is one line and stands in the text; and what containers get
// is what the manifests take.
func FuzzResolve(f *testing.F) {
	shipped, err := os.ReadFile("../../config.toml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(shipped))
	for _, test := range resolveProblems {
		f.Add(test.text)
	}
	for _, test := range resolvedRuleProblems {
		f.Add(test.text)
	}
	f.Add("[plugins.every.config]\nflag = true\nlist = [\"a\", '''\nb''''']\nz_table = { \"a.b\" = \"c\", # x\n d.e = 1, }\n")
	manifests := testManifests(f)
	f.Fuzz(func(t *testing.T, text string) {
		doc, _ := config.Parse(text, "config.toml", config.Options{})
		if doc == nil {
			return
		}
		policy, problems := Resolve(doc, manifests)
		if policy != nil {
			checkEffective(t, policy)
		}
		for _, p := range problems {
			if strings.ContainsAny(p.Error(), "\n\r") {
				t.Errorf("%q is more than one line", p.Error())
			}
			if lines := strings.Count(text, "\n") + 1; p.Line > lines || (p.Line > 0) != (p.Column > 0) {
				t.Errorf("%v: the text has %d lines", p, lines)
			}
		}
	})
}
