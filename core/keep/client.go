package keep

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// client is a connection to a fallback.
type client struct{ conn int }

// dialFallback connects. The error wraps ENOENT or ECONNREFUSED if there is none.
func dialFallback(path string) (*client, error) {
	conn, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	err = setTimeouts(conn)
	if err == nil {
		err = os.NewSyscallError("connect", unix.Connect(conn, &unix.SockaddrUnix{Name: path}))
	}
	if err != nil {
		unix.Close(conn)
		return nil, err
	}
	return &client{conn}, nil
}

// setTimeouts bounds how long sending and receiving wait.
func setTimeouts(socket int) error {
	timeout := unix.NsecToTimeval(peerTimeout.Nanoseconds())
	return os.NewSyscallError("setsockopt", errors.Join(
		unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout),
		unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
	))
}

func (c *client) close() { unix.Close(c.conn) }

func (c *client) say(state string) error { return linux.Send(c.conn, []byte(state)) }

func (c *client) put(name string, fd int) error {
	return linux.Send(c.conn, []byte(storeDescriptor+"\n"+nameAssignment+name), fd)
}

// putAll returns when the fallback has them.
func (c *client) putAll(all []*kept) error {
	for _, k := range all {
		if err := c.put(k.name, k.fd); err != nil {
			return err
		}
	}
	return c.barrier()
}

// barrier returns when the fallback has handled what was sent.
func (c *client) barrier() error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	err = linux.Send(c.conn, []byte(barrier), int(write.Fd()))
	write.Close()
	if err != nil {
		return err
	}
	read.SetReadDeadline(time.Now().Add(peerTimeout))
	if _, err := read.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the fallback does not answer: %w", err)
	}
	return nil
}

// take asks for copies of all descriptors.
func (c *client) take() (all []*kept, err error) {
	defer func() {
		if err != nil {
			for _, k := range all {
				unix.Close(k.fd)
			}
		}
	}()
	if err := c.say(take); err != nil {
		return nil, err
	}
	names := make([]byte, batch*(maxName+1))
	for {
		n, fds, err := linux.Receive(c.conn, names, batch)
		if err != nil {
			return all, err
		}
		if len(fds) == 0 {
			return all, nil
		}
		split := strings.Split(string(names[:n]), ":")
		if len(split) != len(fds) {
			linux.CloseAll(fds...)
			return all, fmt.Errorf("%d names for %d descriptors", len(split), len(fds))
		}
		for i, fd := range fds {
			all = append(all, &kept{split[i], fd})
		}
	}
}

// copyForFallback copies a descriptor that a fallback would get; nil: none would. The original may be closed, and its
// number another's, before a fallback is needed.
func (s *Store) copyForFallback(name string, fd int) (*os.File, error) {
	// Nobody waits for an answer at a socket that listens.
	if listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); s.fallbackPath == "" || err == nil && listening != 0 {
		return nil, nil
	}
	copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("copy the descriptor %q: %w", name, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err))
	}
	return os.NewFile(uintptr(copied), name), nil
}

// insure connects to the fallback, if there is one, and leaves it copies of what is stored.
func (s *Store) insure() error {
	if s.fallbackPath == "" {
		return nil
	}
	fallback, err := dialFallback(s.fallbackPath)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("connect to the fallback: %w", err)
	}
	s.fallback = fallback
	return s.putFallback() // and goes on while it is started
}

// putFallback sends the fallback a copy of all that is stored.
func (s *Store) putFallback() error {
	for name, copies := range s.names {
		for _, file := range copies {
			if file == nil {
				continue
			}
			if err := s.fallback.put(name, int(file.Fd())); err != nil {
				return fmt.Errorf("leave %q to the fallback: %w", name, err)
			}
		}
	}
	return nil
}

// takeFromFallback adds what a fallback has and this process has not inherited.
func (s *Store) takeFromFallback(inherited []Descriptor) ([]Descriptor, error) {
	if s.fallback == nil {
		return inherited, s.fallbackError
	}
	if err := errors.Join(s.fallback.say(takeOver), s.fallback.barrier()); err != nil {
		return inherited, fmt.Errorf("have the fallback stop: %w", err)
	}
	taken, err := s.fallback.take()
	if err != nil {
		return inherited, fmt.Errorf("take what the fallback has: %w", err)
	}
	all := inherited
	for _, k := range taken {
		if slices.ContainsFunc(inherited, func(d Descriptor) bool { return d.Name == k.name && linux.SameFile(int(d.File.Fd()), k.fd) }) {
			unix.Close(k.fd)
			continue
		}
		all = append(all, Descriptor{k.name, os.NewFile(uintptr(k.fd), k.name)})
		if err := s.Put(k.name, k.fd); err != nil {
			return all, err
		}
	}
	return all, nil
}

// releaseFallback has the fallback give up what it has: this process is ready.
func (s *Store) releaseFallback() {
	if s.fallback != nil {
		s.fallback.say(Ready)
		s.fallback.close()
		s.fallback = nil
	}
}

// Leave leaves copies of what is stored to the fallback that the environment names. That answers when this process has
// ended, unless the next broker comes. Without a fallback it does nothing: the manager has them.
func (s *Store) Leave() error {
	if s == nil || s.fallbackPath == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fallback == nil { // it takes one connection at a time
		fallback, err := dialFallback(s.fallbackPath)
		if err != nil {
			return fmt.Errorf("connect to the fallback: %w", err)
		}
		s.fallback = fallback
	}
	// Until this process has ended it answers itself.
	if err := s.fallback.say(takeOver); err != nil {
		return err
	}
	return errors.Join(s.putFallback(), s.fallback.barrier())
}
