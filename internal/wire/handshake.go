package wire

import "github.com/hashicorp/go-plugin"

// ProtocolVersion is the version of plugin.proto as a whole, negotiated by go-plugin.
//
//	1: gRPC, one stream for each notification
const ProtocolVersion = 1

// PluginName is the name under which go-plugin dispenses the one service that a plugin process has.
const PluginName = "intercede"

// BinaryPrefix comes before a plugin's name in the name of its binary.
const BinaryPrefix = "intercede-plugin-"

// LifelineEnv names the descriptor of a socket that lives as long as the process at its other end: a plugin that reads
// end of file from it has lost its broker and exits.
const LifelineEnv = "INTERCEDE_LIFELINE_FD"

// LanesEnv names the descriptor of the socket on which the broker opens lanes, see LaneControl.
const LanesEnv = "INTERCEDE_LANES_FD"

// OwnDir is a folder in the root of a plugin's process for what the process has of its own.
const OwnDir = "/intercede"

// Handshake lets a plugin that was started by hand say so, and refuses another program's plugins. It is no security
// measure.
var Handshake = plugin.HandshakeConfig{
	ProtocolVersion:  ProtocolVersion,
	MagicCookieKey:   "INTERCEDE_PLUGIN",
	MagicCookieValue: "a4f0c1d2-seccomp-user-notification",
}
