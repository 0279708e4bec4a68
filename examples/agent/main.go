// Agent makes harmless device nodes for unprivileged containers, without the broker; see README.md.
package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: agent SOCKET\nSOCKET is what OCI runtimes have as linux.seccomp.listenerPath")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

// run serves the socket, which only root can connect to: who does says which container a listener is of.
func run(path string) error {
	os.Remove(path) // of an agent before this one
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	defer socket.Close()
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	return accept(socket)
}

// accept takes the listeners of containers until the socket is closed.
func accept(socket *net.UnixListener) error {
	for {
		runtime, err := socket.AcceptUnix()
		if err != nil {
			return err
		}
		go func() { // a runtime that says nothing holds up no other
			a, err := receive(runtime, time.Now().Add(10*time.Second))
			if err != nil {
				slog.Error("no container", "error", err)
				return
			}
			slog.Info("container", "id", a.id)
			a.serve()
		}()
	}
}
