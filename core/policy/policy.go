// Package policy says what a container gets of a config, and why: which plugins, in which order, with which settings.
//
// [Resolve] holds a config against the manifests of its plugins: settings, and syscalls that two of them take. It
// reports all its problems at once, as [config.Parse] does before it.
//
// The [plugins] table is the policy of every container that no [[container]] rule matches; [Policy.For] says what a
// container gets, and which line of the config or which annotation it has it from.
package policy

import (
	"time"

	"github.com/intercede/intercede/core/grant"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/wire"
)

// Policy is a config without problems.
type Policy struct {
	Broker  config.Broker
	Audit   config.Audit
	Plugins []Plugin // those that some container may have, in the order in which they are asked

	rules []resolvedRule
	doc   *config.Document
}

// Plugin is a plugin that some container may have.
type Plugin struct {
	Name         string
	Path         string        // absolute path of its program
	SHA256       string        // of the program, 64 lower-case hex digits; empty: not pinned
	Timeout      time.Duration // for its answer to a notification
	OnFailure    *wire.Verdict // what the caller gets when the plugin fails
	MemoryMax    int64         // bytes that its process may use; 0: the sandbox's default
	Grant        *grant.Grant  // what its process may have: all that its manifest asks for is in it
	Enabled      bool          // where no rule says otherwise
	SettingsJSON string        // likewise: every setting of the manifest
	WidestJSON   string        // for wire.Narrow: no setting is its type's zero unless it is so for every container; lists have the elements of all

	state PluginState // where no rule says otherwise
}
