// Package bpf loads and attaches device programs for unprivileged containers; see README.md.
package bpf

import "github.com/intercede/intercede/sdk"

// Plugin is the plugin, for its program.
var Plugin sdk.Handler = handler{}
