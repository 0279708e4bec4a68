package config

import (
	"github.com/intercede/intercede/core/grant"
	"github.com/intercede/intercede/internal/device"
	"github.com/intercede/intercede/internal/syscalls"
	"github.com/intercede/intercede/internal/wire"
)

// grantManifest grants all that a manifest asks for.
const grantManifest = "manifest"

// grant reads what the plugin's process may have: nothing if the key is not there.
func (t *table) grant(name string) *grant.Grant {
	value, given := t.values[name]
	if text, isText := value.(string); isText {
		t.oneOf(name, &text, grantManifest)
		return grant.Everything()
	}
	granted := &grant.Grant{}
	if _, isTable := value.(map[string]any); given && !isTable {
		t.get(name)
		t.fault(name, `%s: want "manifest", or a table such as { capabilities = ["CAP_MKNOD"], syscalls = ["mount"] }`, literal(value))
		return granted
	}
	sub := t.table(name)
	sub.texts("capabilities", &granted.Capabilities, wire.CheckCapability)
	sub.texts("syscalls", &granted.Syscalls, syscalls.Check)
	sub.texts("host", &granted.Host, wire.CheckHostPath)
	sub.texts("devices", &granted.Devices, func(rule string) error {
		_, err := device.ParseRules([]string{rule})
		return err
	})
	sub.bool("host_pids", &granted.HostPIDs)
	sub.finish()
	return granted
}

// texts stores a list of strings that check accepts.
func (t *table) texts(name string, into *[]string, check func(string) error) {
	var list []any
	if !read(t, name, &list, "a list of strings") {
		return
	}
	for i, element := range list {
		text, isText := element.(string)
		if !isText {
			t.reader.report(t.reader.elementProblem(t.key(name), i, literal(element)+": want a string"))
		} else if err := check(text); err != nil {
			t.reader.report(t.reader.elementProblem(t.key(name), i, err.Error()))
		} else {
			*into = append(*into, text)
		}
	}
}
