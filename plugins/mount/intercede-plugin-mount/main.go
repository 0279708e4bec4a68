// Command intercede-plugin-mount mounts approved filesystems for unprivileged containers; see README.md.
package main

import (
	"github.com/intercede/intercede/plugins/mount"
	"github.com/intercede/intercede/sdk"
)

func main() { sdk.Serve(mount.Plugin) }
