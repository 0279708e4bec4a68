// Package sysinfo answers sysinfo(2) with what the container has, not what its host has.
package sysinfo

import "github.com/intercede/intercede/sdk"

// Plugin is the plugin, for its program.
var Plugin sdk.Handler = handler{}
