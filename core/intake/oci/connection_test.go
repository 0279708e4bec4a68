package oci

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Every connection below stays open after its message, as runc's and crun's do in the foreground.

func TestMessagesThatArrive(t *testing.T) {
	large := exampleState(specs.SeccompFdName)
	large.State.Annotations = map[string]string{"org.example.config": strings.Repeat("x", 200<<10)}
	ours := message(t, specs.SeccompFdName)
	for name, sending := range map[string]func(t *testing.T, conn *net.UnixConn, listener *os.File){
		"whole": func(t *testing.T, conn *net.UnixConn, listener *os.File) {
			send(t, conn, ours, listener)
		},
		"white space around": func(t *testing.T, conn *net.UnixConn, listener *os.File) {
			send(t, conn, " \r\n\t"+ours+"\n\n", listener)
		},
		"byte at a time": func(t *testing.T, conn *net.UnixConn, listener *os.File) {
			send(t, conn, ours[:1], listener)
			for i := 1; i < len(ours); i++ {
				send(t, conn, ours[i:i+1])
			}
		},
		"descriptor with the last bytes": func(t *testing.T, conn *net.UnixConn, listener *os.File) {
			send(t, conn, ours[:20])
			send(t, conn, ours[20:], listener)
		},
		"200 KiB": func(t *testing.T, conn *net.UnixConn, listener *os.File) {
			send(t, conn, encode(t, large), listener)
		},
		"other descriptors beside it": func(t *testing.T, conn *net.UnixConn, listener *os.File) {
			r, w := newPipe(t)
			send(t, conn, message(t, "other", specs.SeccompFdName, "third"), w, listener, w)
			w.Close()
			requireEOF(t, r)
		},
		"sixteen descriptors": func(t *testing.T, conn *net.UnixConn, listener *os.File) {
			names, files := make([]string, maxDescriptors), make([]*os.File, maxDescriptors)
			for i := range files {
				_, files[i] = newPipe(t)
			}
			names[9], files[9] = specs.SeccompFdName, listener
			send(t, conn, message(t, names...), files...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			requireNoLeak(t)
			b := startBroker(t)
			sending(t, b.dial(t), newListener(t))
			requireOurs(t, b.nextArrival(t))
		})
	}
}

func TestRealRuntimesMessagesArrive(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	must(t, err)
	if len(files) == 0 {
		t.Fatal("no messages in testdata")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			requireNoLeak(t)
			data, err := os.ReadFile(file)
			must(t, err)
			b := startBroker(t)
			send(t, b.dial(t), string(data), newListener(t))
			requireOurs(t, b.nextArrival(t))
		})
	}
}

func TestMessagesThatAreRefused(t *testing.T) {
	ours := message(t, specs.SeccompFdName)
	for name, c := range map[string]struct {
		want error
		send func(t *testing.T, conn *net.UnixConn, listener *os.File)
	}{
		"garbage": {ErrMessage, func(t *testing.T, conn *net.UnixConn, listener *os.File) {
			send(t, conn, "GET / HTTP/1.1\r\n\r\n", listener)
		}},
		"half, then closed": {ErrMessage, func(t *testing.T, conn *net.UnixConn, listener *os.File) {
			send(t, conn, ours[:len(ours)/2], listener)
			conn.Close()
		}},
		"nothing, then closed": {ErrNothingSent, func(t *testing.T, conn *net.UnixConn, _ *os.File) {
			conn.Close()
		}},
		"white space and a descriptor, then closed": {ErrMessage, func(t *testing.T, conn *net.UnixConn, listener *os.File) {
			send(t, conn, "\n", listener)
			conn.Close()
		}},
		"no descriptor": {ErrDescriptors, func(t *testing.T, conn *net.UnixConn, _ *os.File) {
			send(t, conn, ours)
		}},
		"20 descriptors, of which 16 fit and are named": {ErrDescriptors, func(t *testing.T, conn *net.UnixConn, listener *os.File) {
			names, files := make([]string, maxDescriptors), make([]*os.File, 20)
			for i := range files {
				files[i] = listener
			}
			names[0] = specs.SeccompFdName
			send(t, conn, message(t, names...), files...)
		}},
		"two descriptors, one name": {ErrDescriptors, func(t *testing.T, conn *net.UnixConn, listener *os.File) {
			send(t, conn, ours, listener, listener)
		}},
		"one descriptor, two names": {ErrDescriptors, func(t *testing.T, conn *net.UnixConn, listener *os.File) {
			send(t, conn, message(t, specs.SeccompFdName, "other"), listener)
		}},
		"two listeners": {ErrMessage, func(t *testing.T, conn *net.UnixConn, listener *os.File) {
			send(t, conn, message(t, specs.SeccompFdName, specs.SeccompFdName), listener, listener)
		}},
		"descriptors in two parts": {ErrDescriptors, func(t *testing.T, conn *net.UnixConn, listener *os.File) {
			names := message(t, specs.SeccompFdName, "other")
			send(t, conn, names[:20], listener)
			send(t, conn, names[20:], listener)
		}},
		"no listener": {ErrDescriptors, func(t *testing.T, conn *net.UnixConn, _ *os.File) {
			r, w := newPipe(t)
			send(t, conn, ours, w)
			w.Close()
			requireEOF(t, r)
		}},
		"no listener but another is": {ErrDescriptors, func(t *testing.T, conn *net.UnixConn, listener *os.File) {
			_, w := newPipe(t)
			send(t, conn, message(t, specs.SeccompFdName, "other"), w, listener)
		}},
		"more than the cap": {ErrMessage, func(t *testing.T, conn *net.UnixConn, listener *os.File) {
			start := `{"metadata":"`
			must(t, conn.SetWriteDeadline(time.Now().Add(patience)))
			err := trySend(conn, start+strings.Repeat("x", MaxMessage), listener)
			if err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
				t.Fatal(err)
			}
		}},
		"trailing garbage": {ErrMessage, func(t *testing.T, conn *net.UnixConn, listener *os.File) {
			send(t, conn, ours+"\n}", listener)
		}},
		"a second object": {ErrMessage, func(t *testing.T, conn *net.UnixConn, listener *os.File) {
			send(t, conn, ours+ours, listener)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			requireNoLeak(t)
			b := startBroker(t)
			c.send(t, b.dial(t), newListener(t))
			b.requireRefusal(t, c.want)
		})
	}
}

func TestDeadlines(t *testing.T) {
	t.Run("before the first byte", func(t *testing.T) {
		requireNoLeak(t)
		b := startBroker(t, func(l *limits) { l.silence = time.Millisecond })
		b.dial(t)
		b.requireRefusal(t, os.ErrDeadlineExceeded)
	})
	t.Run("within the message", func(t *testing.T) {
		requireNoLeak(t)
		b := startBroker(t, func(l *limits) { l.message = time.Millisecond })
		send(t, b.dial(t), message(t, specs.SeccompFdName)[:20], newListener(t))
		b.requireRefusal(t, os.ErrDeadlineExceeded)
	})
}

// requireRefusal requires that the next connection, which is this process's, is refused with want.
func (b *broker) requireRefusal(t *testing.T, want error) {
	t.Helper()
	e := b.next(t)
	if e.err == nil {
		e.arrival.Listener.Close()
		t.Fatal("not refused")
	}
	if !errors.Is(e.err, want) {
		t.Errorf("refused with %q, want %q", e.err, want)
	}
	if len(e.err.Error()) > 500 {
		t.Errorf("the error has %d bytes", len(e.err.Error()))
	}
	if int(e.peer.Pid) != os.Getpid() || int(e.peer.Uid) != os.Getuid() {
		t.Errorf("refused peer is %+v", e.peer)
	}
}

// A message that fills the first read exactly leaves what follows in the socket.
func TestTrailingGarbageBehindAFullReadIsRefused(t *testing.T) {
	ours := message(t, specs.SeccompFdName)
	for padding := range 600 {
		if !refusedAfter(t, strings.Repeat(" ", padding)+ours+"x") {
			t.Fatalf("accepted with %d spaces before it", padding)
		}
	}
}

func refusedAfter(t *testing.T, data string) bool {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(pair[0])
	file := os.NewFile(uintptr(pair[1]), "socket")
	conn, err := net.FileConn(file)
	file.Close()
	must(t, err)
	defer conn.Close()
	must(t, unix.Sendto(pair[0], []byte(data), 0, nil))
	raw, err := conn.(*net.UnixConn).SyscallConn()
	must(t, err)
	c := &connection{socket: conn.(*net.UnixConn), raw: raw, message: patience}
	_, err = c.readMessage()
	return errors.Is(err, ErrMessage)
}

func requireOurs(t *testing.T, arrival Arrival) {
	t.Helper()
	must(t, requireListener(int(arrival.Listener.Fd())))
	if arrival.State.State.ID != "web" {
		t.Errorf("container ID %q", arrival.State.State.ID)
	}
	if int(arrival.Peer.Pid) != os.Getpid() || int(arrival.Peer.Uid) != os.Getuid() || int(arrival.Peer.Gid) != os.Getgid() {
		t.Errorf("peer %+v", arrival.Peer)
	}
	flags, err := unix.FcntlInt(arrival.Listener.Fd(), unix.F_GETFD, 0)
	must(t, err)
	if flags&unix.FD_CLOEXEC == 0 {
		t.Error("the listener would be inherited by programs that the broker runs")
	}
}

// requireEOF waits until nobody holds the pipe's write end.
func requireEOF(t *testing.T, r *os.File) {
	t.Helper()
	must(t, r.SetReadDeadline(time.Now().Add(patience)))
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the broker kept a descriptor that is not the listener: %v", err)
	}
}
