// A plugin of the protocol's first state, on sources of that time: every broker to come serves it as it is. So it
// imports nothing of the project, and is not brought up to date. A later state of the protocol gets another plugin like
// this one.
//
// It takes getppid(2) where the last register is 29: the first one says what it does. What is below 101 is the next
// plugin's.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	"intercede.invalid/oldplugin/wire"
)

// The handshake of protocol version 1.
var handshake = plugin.HandshakeConfig{
	ProtocolVersion:  1,
	MagicCookieKey:   "INTERCEDE_PLUGIN",
	MagicCookieValue: "a4f0c1d2-seccomp-user-notification",
}

const manifest = `{
  "name": "old",
  "version": "0.0.1",
  "description": "an old plugin",
  "syscalls": [
    {
      "name": "getppid",
      "when": [{"all": [{"arg": 5, "mask": "18446744073709551615", "value": "29"}]}],
      "arguments": [{"name": "what", "format": "FORMAT_INT"}],
      "captures": [{"part": "PART_CREDENTIALS"}, {"part": "PART_DESCRIPTOR", "arg": 4}],
      "repeat": "REPEAT_SAFE"
    },
    {
      "name": "sethostname",
      "reads": [{"arg": 0, "bytes": {"length_arg": 1, "max": 64}}],
      "if_settings": ["names"]
    }
  ],
  "settings": [
    {"key": "names", "type": "TYPE_BOOL", "default_json": "true", "help": "sethostname gives the name's length"},
    {"key": "greeting", "type": "TYPE_STRING", "default_json": "\"hello\"", "help": "its length is an answer", "pattern": "[a-z]*",
      "example": "hello"}
  ],
  "uses": {"host_pids": true},
  "on_failure": {"errno": 5}
}`

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve() error {
	s := &server{manifest: &wire.Manifest{}, brought: newBrought(), sessions: map[uint64]*session{}}
	if err := protojson.Unmarshal([]byte(manifest), s.manifest); err != nil {
		return err
	}
	if len(os.Args) == 2 && os.Args[1] == "manifest" {
		fmt.Println(manifest)
		return nil
	}
	lifeline, err := inherited("INTERCEDE_LIFELINE_FD")
	if err != nil {
		return err
	}
	go func() {
		io.Copy(io.Discard, os.NewFile(uintptr(lifeline), "lifeline"))
		os.Exit(0)
	}()
	if s.control, err = inherited("INTERCEDE_LANES_FD"); err != nil {
		return err
	}
	go s.serveControl()
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  handshake,
		VersionedPlugins: map[int]plugin.PluginSet{1: {"intercede": &service{server: s}}},
		GRPCServer:       plugin.DefaultGRPCServer,
	})
	return nil
}

func inherited(name string) (int, error) { return strconv.Atoi(os.Getenv(name)) }

type service struct {
	plugin.NetRPCUnsupportedPlugin
	server *server
}

func (s *service) GRPCServer(_ *plugin.GRPCBroker, registrar *grpc.Server) error {
	wire.RegisterPluginServer(registrar, s.server)
	return nil
}

func (s *service) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, fmt.Errorf("it is a plugin")
}
