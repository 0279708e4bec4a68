// Package mknod makes approved device nodes for unprivileged containers; see README.md.
package mknod

import "github.com/intercede/intercede/sdk"

// Plugin is the plugin, for its program.
var Plugin sdk.Handler = handler{}
