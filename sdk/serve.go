package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/intercede/intercede/internal/collector"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
)

// Serve is a plugin's main function. As `PLUGIN manifest` it prints the manifest as JSON; started by the broker it
// serves until the broker stops it or is gone. It does not return.
//
// Log with log/slog's default logger, and with Request.Log what containers can cause: the broker has it in its own
// log, at the same level, under the plugin's name. Other lines on standard error arrive as warnings.
func Serve(h Handler) {
	if err := serve(h); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serve(h Handler) error {
	server, err := newServer(h)
	if err != nil {
		return err
	}
	manifest := server.manifest
	if len(os.Args) == 2 && os.Args[1] == "manifest" {
		return printManifest(manifest)
	}
	if len(os.Args) > 1 {
		return fmt.Errorf("usage: %s [manifest]\nIt is started by intercede; enable it in config.toml under [plugins.%s]", os.Args[0], manifest.GetName())
	}
	// Callers share no user with the plugin, but other services may: nobody else looks into its memory.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl(PR_SET_DUMPABLE): %w", err)
	}
	if err := followLifeline(); err != nil {
		return err
	}
	if err := server.receiveLanes(); err != nil {
		return err
	}
	collector.Tune()
	slog.SetDefault(slog.New(newLogHandler(os.Stderr))) // before go-plugin takes os.Stderr away
	hclog.SetDefault(hclog.New(&hclog.LoggerOptions{Name: manifest.GetName(), Level: hclog.Debug, JSONFormat: true, Output: os.Stderr}))
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: wire.Handshake,
		VersionedPlugins: map[int]plugin.PluginSet{
			wire.ProtocolVersion: {wire.PluginName: &grpcPlugin{server: server}},
		},
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options, grpc.MaxRecvMsgSize(wire.MaxMessage),
				grpc.ReadBufferSize(wire.GRPCBuffer), grpc.WriteBufferSize(wire.GRPCBuffer))...)
		},
		Logger: hclog.Default(),
	})
	return nil
}

func printManifest(manifest *wire.Manifest) error {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(manifest)
	if err != nil {
		return err
	}
	var out bytes.Buffer // the spaces of protojson differ from program to program
	if err := json.Indent(&out, text, "", "  "); err != nil {
		return err
	}
	_, err = fmt.Println(out.String())
	return err
}

// followLifeline ends the process when the broker is gone, however it went.
func followLifeline() error {
	text, ok := os.LookupEnv(wire.LifelineEnv)
	if !ok {
		return nil
	}
	fd, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("%s=%q: want the number of a descriptor", wire.LifelineEnv, text)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil { // for os.NewFile to have the Go runtime poll it
		return fmt.Errorf("%s=%d: %w", wire.LifelineEnv, fd, err)
	}
	lifeline := os.NewFile(uintptr(fd), "lifeline")
	go func() {
		io.Copy(io.Discard, lifeline)
		os.Exit(0)
	}()
	return nil
}

// grpcPlugin glues the server to go-plugin.
type grpcPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	server *server
}

func (p *grpcPlugin) GRPCServer(_ *plugin.GRPCBroker, registrar *grpc.Server) error {
	wire.RegisterPluginServer(registrar, p.server)
	return nil
}

func (p *grpcPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return wire.NewPluginClient(conn), nil
}
