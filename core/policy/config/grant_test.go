package config

import (
	"reflect"
	"testing"

	"github.com/intercede/intercede/core/grant"
)

func TestGrant(t *testing.T) {
	for text, want := range map[string]*grant.Grant{
		"":                     {},
		`grant = "manifest"`:   grant.Everything(),
		"grant = {}":           {},
		"grant.host_pids=true": {Powers: grant.Powers{HostPIDs: true}},
		`grant = { capabilities = ["CAP_BPF"], syscalls = ["bpf"], host = ["/proc"], devices = ["c 1:3 r"] }`: {Powers: grant.Powers{
			Capabilities: []string{"CAP_BPF"}, Syscalls: []string{"bpf"}, Host: []string{"/proc"}, Devices: []string{"c 1:3 r"}}},
	} {
		doc, problems := Parse("[plugins.a]\n"+text, "config.toml", Options{})
		if problems != nil || !reflect.DeepEqual(doc.Plugin("a").Grant, want) {
			t.Errorf("%s: %+v, %v", text, doc.Plugin("a").Grant, problems)
		}
	}
}
