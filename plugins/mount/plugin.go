// Package mount mounts approved filesystems for unprivileged containers; see README.md.
package mount

import "github.com/intercede/intercede/sdk"

// Plugin is the plugin, for its program.
var Plugin sdk.Handler = handler{}
