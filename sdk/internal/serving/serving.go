// Package serving lets sdktest serve a handler in the test's own process. The SDK does not export that: a plugin is
// served by sdk.Serve alone.
package serving

import (
	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/wire"
)

// Server is a handler as plugin.proto has it.
type Server interface {
	wire.PluginServer
	// ServeLanes serves the lanes that are opened on this socket, until it is closed.
	ServeLanes(control *lane.End)
}

// New makes a server of an sdk.Handler. The error names every fault of its manifest. Package sdk sets it.
var New func(handler any) (Server, error)
