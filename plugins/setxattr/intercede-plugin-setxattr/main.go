// Command intercede-plugin-setxattr sets approved trusted.* and security.* attributes for unprivileged containers;
// see README.md.
package main

import (
	"github.com/intercede/intercede/plugins/setxattr"
	"github.com/intercede/intercede/sdk"
)

func main() { sdk.Serve(setxattr.Plugin) }
