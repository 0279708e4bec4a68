// Command intercede-plugin-sysinfo answers sysinfo(2) with what the container has, not what its host has.
package main

import (
	"github.com/intercede/intercede/plugins/sysinfo"
	"github.com/intercede/intercede/sdk"
)

func main() { sdk.Serve(sysinfo.Plugin) }
