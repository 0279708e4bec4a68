// Package sched changes scheduling policies for unprivileged containers; see README.md.
package sched

import "github.com/intercede/intercede/sdk"

// Plugin is the plugin, for its program.
var Plugin sdk.Handler = plugin
