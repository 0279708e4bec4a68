package socket

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// copyOf is what a manager has of a socket.
func copyOf(t *testing.T, conn syscall.Conn) *os.File {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	copied := -1
	raw.Control(func(fd uintptr) { copied, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(copied), "kept")
}

// TestKept binds sockets that outlive who bound them: who connects meanwhile is served by the next.
func TestKept(t *testing.T) {
	for network, listen := range map[string]func(string, *Kept) (*Socket, error){"unix": Listen, "unixpacket": ListenPackets} {
		t.Run(network, func(t *testing.T) {
			path := filepath.Join(shortDir(t), "The_socket")
			var name string
			kept := &Kept{}
			kept.Put = func(given string, fd int) error {
				name = given
				copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
				kept.Files = append(kept.Files, os.NewFile(uintptr(copied), given))
				return err
			}
			first, err := listen(path, kept)
			if err != nil {
				t.Fatal(err)
			}
			if want := "socket." + network + ".-he-socket"; name != want {
				t.Errorf("kept as %q, want %q", name, want)
			}
			for _, withdrawn := range []bool{false, true} {
				if withdrawn {
					first.withdraw() // and it is killed
					if err := errors.Join(first.listener.Close(), first.lock.file.Close()); err != nil {
						t.Fatal(err)
					}
				} else if err := first.Close(); err != nil {
					t.Fatal(err)
				}
				var client net.Conn
				if !withdrawn {
					if client, err = net.Dial(network, path); err != nil {
						t.Fatalf("nobody can connect meanwhile: %v", err)
					}
				}
				next := &Kept{Files: []*os.File{copyOf(t, kept.Files[0])}}
				if first, err = listen(path, next); err != nil {
					t.Fatal(err)
				}
				if len(next.Files) != 0 {
					t.Error("the socket was not taken")
				}
				if withdrawn {
					if client, err = net.Dial(network, path); err != nil {
						t.Fatal(err)
					}
				}
				conn, err := first.Accept(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				conn.Close()
				client.Close()
			}
			if err := first.Close(); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(path); err != nil {
				t.Errorf("the socket's file: %v", err)
			}
		})
	}
}

// TestOthersAreNotTaken leaves what is not the wanted socket, and binds one where nobody could connect to what is kept.
func TestOthersAreNotTaken(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "s")
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	other := listen(t, filepath.Join(dir, "other"))
	packets, err := ListenPackets(filepath.Join(dir, "packets"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	kept := &Kept{Files: []*os.File{null, copyOf(t, other.listener), copyOf(t, packets.listener)}}
	if s, err := Listen(packets.path, kept); !errors.Is(err, ErrInUse) {
		t.Errorf("a socket of packets is taken for a stream: %v, %v", s, err)
	}
	s, err := Listen(path, kept)
	if err != nil {
		t.Fatal(err)
	}
	if len(kept.Files) != 3 {
		t.Errorf("%d are left", len(kept.Files))
	}
	copied := copyOf(t, s.listener)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of one that is not kept: %v", err)
	}
	s, err = Listen(path, &Kept{Files: []*os.File{copied}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := connectOnce(path); err != nil {
		t.Error(err)
	}
}
