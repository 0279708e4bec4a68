package policy

import (
	"encoding/hex"
	"errors"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/intercede/intercede/internal/wire"
)

func readPlugins(t *table, broker *Broker) []PluginConfig {
	var plugins []PluginConfig
	for _, name := range t.names() {
		sub := t.table(name)
		if err := wire.CheckPluginName(name); err != nil {
			t.fault(name, "%v", err)
			continue
		}
		plugins = append(plugins, readPlugin(sub, name, broker))
	}
	return plugins
}

func readPlugin(t *table, name string, broker *Broker) PluginConfig {
	p := defaultPlugin(name, t.path, broker)
	t.bool("enabled", &p.Enabled)
	t.text("path", &p.Path, checkPath)
	t.text("sha256", &p.SHA256, checkSHA256)
	t.deadline("timeout", &p.Timeout)
	t.verdict("on_failure", &p.OnFailure)
	p.settings = t.table("config").values
	t.finish()

	p.Path = from(broker.PluginDir, p.Path)
	p.SHA256 = strings.ToLower(p.SHA256)
	return p
}

// defaultPlugin is a plugin without any key of its table, which stands at path. Its program is relative to the plugin folder.
func defaultPlugin(name string, path toml.Key, broker *Broker) PluginConfig {
	return PluginConfig{Name: name, Enabled: true, Path: wire.BinaryPrefix + name, Timeout: broker.Deadline, path: path}
}

func checkSHA256(digest string) error {
	if raw, err := hex.DecodeString(digest); err != nil || len(raw) != 32 {
		return errors.New("want 64 hex digits, as sha256sum prints them")
	}
	return nil
}
