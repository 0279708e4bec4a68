package config

import (
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/intercede/intercede/core/grant"
	"github.com/intercede/intercede/internal/wire"
)

// Plugin is a [plugins.NAME] table, or its defaults.
type Plugin struct {
	Name      string
	Enabled   bool           // where no rule says otherwise
	Used      bool           // some container may have it: it is enabled, or a rule or an annotation can enable it
	Path      string         // absolute
	SHA256    string         // 64 lower-case hex digits; empty: not pinned
	Timeout   time.Duration  // the broker's deadline where the table has none
	MemoryMax int            // MiB; 0: the sandbox's default
	Grant     *grant.Grant   // what its process may have
	OnFailure *wire.Verdict  // nil: the manifest's
	At        Key            // where the config first wants it
	Settings  map[string]any // as toml.Decode gives them
}

func readPlugins(t *table, broker *Broker) []Plugin {
	var plugins []Plugin
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

func readPlugin(t *table, name string, broker *Broker) Plugin {
	p := defaultPlugin(name, t.path, broker)
	t.bool("enabled", &p.Enabled)
	t.text("path", &p.Path, checkPath)
	t.text("sha256", &p.SHA256, checkSHA256)
	t.deadline("timeout", &p.Timeout)
	t.verdict("on_failure", &p.OnFailure)
	t.int("memory_max", &p.MemoryMax, 32, 1<<20)
	p.Grant = t.grant("grant")
	p.Settings = t.table("config").values
	t.finish()

	p.Path = from(broker.PluginDir, p.Path)
	p.SHA256 = strings.ToLower(p.SHA256)
	return p
}

// defaultPlugin is a plugin without any key of its table, which the config first wants at the key. Its program is
// relative to the plugin folder.
func defaultPlugin(name string, at Key, broker *Broker) Plugin {
	return Plugin{Name: name, Enabled: true, Path: wire.BinaryPrefix + name, Timeout: broker.Deadline, At: at}
}

func checkSHA256(digest string) error {
	if raw, err := hex.DecodeString(digest); err != nil || len(raw) != 32 {
		return errors.New("want 64 hex digits, as sha256sum prints them")
	}
	return nil
}
