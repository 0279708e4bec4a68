// Package setxattr sets approved trusted.* and security.* attributes for unprivileged containers; see README.md.
package setxattr

import "github.com/intercede/intercede/sdk"

// Plugin is the plugin, for its program.
var Plugin sdk.Handler = handler{}
