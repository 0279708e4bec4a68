package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/intercede/intercede/internal/linux"
)

// maxSocketPath is what sockaddr_un holds beside its NUL (unix(7)), in bytes.
const maxSocketPath = 107

// maxRate bounds rate and burst: far more than one machine answers in a second.
const maxRate = 10_000_000

// DefaultControl is the admin socket where no config names another.
const DefaultControl = "/run/intercede/control.sock"

// Broker is the [broker] table, with its defaults filled in.
type Broker struct {
	Socket      string         // absolute path of the socket that OCI runtimes connect to (listenerPath)
	LXCSocket   string         // absolute path of the socket that LXC's monitors connect to; empty: none
	Control     string         // absolute path of the admin socket
	PluginDir   string         // absolute path of the folder of the plugins' programs
	Deadline    time.Duration  // for the answer to a notification
	MaxInflight int            // notifications of a container being answered at once
	Rate        int            // notifications of a container per second; 0: unlimited
	Burst       int            // notifications of a container that may exceed Rate at once
	Priority    linux.Priority // of the threads of the daemon and its plugins
	LogLevel    string         // trace, debug, info, warn or error
	LogFormat   string         // json or console
	Metrics     string         // IP address and port that serve them; empty: none
	Order       []string       // plugin names: of those that take the same syscall, the first is asked first
}

func defaultBroker() Broker {
	return Broker{
		Socket:      "/run/intercede/intercede.sock",
		LXCSocket:   "/run/intercede/lxc.sock",
		Control:     DefaultControl,
		PluginDir:   "/usr/libexec/intercede",
		Deadline:    10 * time.Second,
		MaxInflight: 16,
		Rate:        100_000,
		LogLevel:    "info",
		LogFormat:   "json",
	}
}

// readBroker reads [broker]; relative paths are relative to the folder.
func readBroker(t *table, folder string, plugins []string) Broker {
	b := defaultBroker()
	t.text("socket", &b.Socket, checkSocketPath)
	t.text("lxc_socket", &b.LXCSocket, checkOptionalSocketPath)
	t.text("control", &b.Control, checkSocketPath)
	t.text("plugin_dir", &b.PluginDir, checkPath)
	t.deadline("deadline", &b.Deadline)
	t.int("max_inflight", &b.MaxInflight, 1, 65536)
	readRate(t, &b)
	t.priority("priority", &b.Priority)
	t.oneOf("log_level", &b.LogLevel, "trace", "debug", "info", "warn", "error")
	t.oneOf("log_format", &b.LogFormat, "json", "console")
	t.text("metrics", &b.Metrics, checkOptionalAddress)
	t.choice("order", &b.Order, plugins)
	t.finish()

	t.checkDifferentPaths(&b)
	b.PluginDir = from(folder, b.PluginDir)
	return b
}

// readRate reads rate and burst. Without a burst, it is what a second allows.
func readRate(t *table, b *Broker) {
	t.int("rate", &b.Rate, 0, maxRate)
	b.Burst = b.Rate
	t.int("burst", &b.Burst, 1, maxRate)
	if b.Rate == 0 && b.Burst != 0 {
		t.fault("burst", "has no meaning without a limit: rate is 0")
		b.Burst = 0
	}
}

func checkSocketPath(path string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	if !filepath.IsAbs(path) {
		return errors.New("want an absolute path")
	}
	if len(path) > maxSocketPath {
		return fmt.Errorf("%d bytes long: the path of a socket has at most %d", len(path), maxSocketPath)
	}
	return nil
}

func checkOptionalSocketPath(path string) error {
	if path == "" {
		return nil
	}
	return checkSocketPath(path)
}

// checkOptionalAddress accepts numbers alone: a name would be looked up, and could mean another address tomorrow.
func checkOptionalAddress(address string) error {
	if address == "" {
		return nil
	}
	if a, err := netip.ParseAddrPort(address); err != nil || a.Port() == 0 {
		return errors.New(`want an IP address and a port, such as "127.0.0.1:9099" or "[::1]:9099", or "" for none`)
	}
	return nil
}

// checkDifferentPaths refuses one path for several sockets.
func (t *table) checkDifferentPaths(b *Broker) {
	socket, lxc, control := filepath.Clean(b.Socket), filepath.Clean(b.LXCSocket), filepath.Clean(b.Control)
	if lxc == socket {
		t.fault("lxc_socket", "%s is the runtime socket too: want another path", quote(b.LXCSocket))
	}
	if control == socket || control == lxc {
		t.fault("control", "%s is a runtime socket too: want another path", quote(b.Control))
	}
}

func checkPath(path string) error {
	if path == "" || strings.ContainsFunc(path, unicode.IsControl) {
		return errors.New("want a path without control characters")
	}
	return nil
}

// from is path, seen from folder if it is relative.
func from(folder, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(folder, path)
}
