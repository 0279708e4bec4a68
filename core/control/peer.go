package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/intercede/intercede/core/socket"
	"golang.org/x/sys/unix"
)

// caller is a client for one request, which knows who has the socket.
type caller struct {
	path string
	peer atomic.Pointer[unix.Ucred]
}

func (c *caller) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.path)
			if err != nil {
				return nil, err
			}
			if peer, err := socket.Peer(conn.(*net.UnixConn)); err == nil {
				c.peer.Store(&peer)
			}
			return &asking{Conn: conn, asked: make(chan struct{})}, nil
		},
	}}
}

// asking is a connection of which nothing is read before the request was written. What a foreign server says unasked
// is then a bad answer, whenever it comes: net/http prints a line about it otherwise, beside the command's own.
type asking struct {
	net.Conn
	once  sync.Once
	asked chan struct{}
}

func (c *asking) Read(p []byte) (int, error) {
	<-c.asked
	return c.Conn.Read(p)
}

func (c *asking) Write(p []byte) (int, error) {
	defer c.once.Do(func() { close(c.asked) })
	return c.Conn.Write(p)
}

func (c *asking) Close() error {
	defer c.once.Do(func() { close(c.asked) })
	return c.Conn.Close()
}

// owner names the process that has the socket, as it was when that began to listen.
func (c *caller) owner() string {
	peer := c.peer.Load()
	if peer == nil {
		return "the process that has the socket"
	}
	name := ""
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", peer.Pid)); err == nil {
		name = fmt.Sprintf(" %q", strings.TrimSpace(string(text)))
	}
	return fmt.Sprintf("process %d%s of user %d, which has the socket,", peer.Pid, name, peer.Uid)
}

// explain says what a request failed of, and what to do.
func (c *caller) explain(ctx context.Context, err error) error {
	var refused *net.OpError
	dialed := errors.As(err, &refused) && refused.Op == "dial"
	switch {
	case dialed && errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("only root may connect: use sudo: %w", refused.Err)
	case dialed && errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("nobody answers, the daemon that had the socket has ended: start it with `systemctl start intercede` or `intercede serve`: %w", refused.Err)
	case dialed:
		return fmt.Errorf("nobody answers: start the daemon with `systemctl start intercede` or `intercede serve`, or name its config with --config: %w", refused.Err)
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), errNoAnswer):
		return fmt.Errorf("%s does not answer in time: if it is being started, try again; if it hangs, see its log, and restart it: `systemctl restart intercede`",
			c.owner())
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return fmt.Errorf("%s %w: %w", c.owner(), errForeign, err)
	}
}

// reach returns an error unless a daemon of this program answers at once on the admin socket at path. What it is asked
// for afterwards may take longer.
func reach(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, clientTimeout, errNoAnswer)
	defer cancel()
	return get(ctx, path, statusPath, &json.RawMessage{})
}

// errForeign means that something else than a daemon of this program answers.
var errForeign = errors.New("does not answer as intercede does: is [broker] control of the config right, and is the daemon of this version?")
