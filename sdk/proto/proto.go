// Package proto has the contract between the broker and a plugin as text, for plugins in languages without an SDK.
package proto

import _ "embed"

// Plugin is the file plugin.proto.
//
//go:embed plugin.proto
var Plugin string
