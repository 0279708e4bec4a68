// Package policy turns config.toml into what the broker does: which plugins a container has, in which order, with which
// settings and limits.
//
// It has two stages. [Parse] needs nothing but the text: syntax, keys, types, ranges. [Resolve] holds the plugins' tables
// against their manifests: settings, and syscalls that two of them take. Each stage reports all its problems at once,
// with position, key path and what would be accepted. [Load] is Parse for a file, which only its owner may be able to
// write.
//
// The [plugins] table is the policy of every container that no [[container]] rule matches; [Policy.For] says what a
// container gets, and which line of the config or which annotation it has it from.
package policy

import (
	"time"

	"github.com/intercede/intercede/internal/wire"
)

// Policy is a config without problems.
type Policy struct {
	Broker  Broker
	Plugins []Plugin // those that some container may have, in the order in which they are asked

	rules []resolvedRule
}

// Plugin is a plugin that some container may have.
type Plugin struct {
	Name         string
	Path         string        // absolute path of its program
	SHA256       string        // of the program, 64 lower-case hex digits; empty: not pinned
	Timeout      time.Duration // for its answer to a notification
	OnFailure    *wire.Verdict // what the caller gets when the plugin fails
	Enabled      bool          // where no rule says otherwise
	SettingsJSON string        // likewise: every setting of the manifest
	WidestJSON   string        // for wire.Narrow: no setting is its type's zero unless it is so for every container

	state PluginState // where no rule says otherwise
}
