// Command intercede-plugin-mknod makes approved device nodes for unprivileged containers; see README.md.
package main

import (
	"github.com/intercede/intercede/plugins/mknod"
	"github.com/intercede/intercede/sdk"
)

func main() { sdk.Serve(mknod.Plugin) }
