package socket

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestListenPackets(t *testing.T) {
	path := filepath.Join(shortDir(t), "socket")
	stale, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	s, err := ListenPackets(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	refused(t, path, ErrInUse)
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		t.Error("a stream is connected")
	}
	client, err := net.Dial("unixpacket", path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := s.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client.Write([]byte("one"))
	client.Write([]byte("two"))
	buffer := make([]byte, 100)
	if n, err := conn.Read(buffer); err != nil || string(buffer[:n]) != "one" {
		t.Errorf("received %q, %v", buffer[:n], err)
	}
}
