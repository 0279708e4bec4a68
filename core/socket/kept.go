package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Kept are listening sockets that outlive the process, since its manager has them too. Connections wait in their
// backlogs while there is no process. A nil one has none.
type Kept struct {
	// Files are those that the process was started with. Listen takes those whose paths it is given.
	Files []*os.File
	// Put has the manager keep a socket that was bound; nil: it does not.
	Put func(name string, fd int) error
}

// NamePrefix begins the names under which sockets are kept. The type of the socket and its path's last part follow.
const NamePrefix = "socket."

// take gives the file that is bound to the path; nil: there is none.
func (k *Kept) take(network, path string) *os.File {
	if k == nil {
		return nil
	}
	for i, file := range k.Files {
		if isBound(file, network, path) {
			k.Files = append(k.Files[:i:i], k.Files[i+1:]...)
			return file
		}
	}
	return nil
}

// isBound reports whether it is a listening socket with this type and path.
func isBound(file *os.File, network, path string) bool {
	kind := unix.SOCK_STREAM
	if network == "unixpacket" {
		kind = unix.SOCK_SEQPACKET
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return false
	}
	bound := false
	raw.Control(func(fd uintptr) {
		address, err := unix.Getsockname(int(fd))
		local, ok := address.(*unix.SockaddrUnix)
		if err != nil || !ok || local.Name != path {
			return
		}
		have, err1 := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE)
		listening, err2 := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		bound = err1 == nil && err2 == nil && have == kind && listening == 1
	})
	return bound
}

// IsListening reports whether the file is a socket that accepts connections.
func IsListening(file *os.File) bool {
	raw, err := file.SyscallConn()
	if err != nil {
		return false
	}
	listening := 0
	raw.Control(func(fd uintptr) { listening, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN) })
	return listening == 1
}

// adopt goes on with a socket that is bound already, and takes the file over. The path may lead to it still, or to
// where a process that had no room left has moved it. It fails with fs.ErrNotExist if nobody could connect any more.
func adopt(file *os.File, path string) (*net.UnixListener, error) {
	defer file.Close()
	switch _, err := os.Lstat(path); {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist):
		if err := os.Rename(path+withdrawnSuffix, path); err != nil {
			return nil, err
		}
	default:
		return nil, err
	}
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("going on with a socket: %w", err)
	}
	adopted := listener.(*net.UnixListener)
	adopted.SetUnlinkOnClose(false)
	return adopted, nil
}

// put has the manager keep the socket.
func (k *Kept) put(network, path string, listener *net.UnixListener) error {
	if k == nil || k.Put == nil {
		return nil
	}
	raw, err := listener.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	err = raw.Control(func(fd uintptr) { failure = k.Put(keptName(network, path), int(fd)) })
	return errors.Join(err, failure)
}

// keptName is made of letters that a descriptor store takes.
func keptName(network, path string) string {
	last := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' {
			return r
		}
		return '-'
	}, path[strings.LastIndexByte(path, '/')+1:])
	return NamePrefix + network + "." + last[:min(len(last), 100)]
}
