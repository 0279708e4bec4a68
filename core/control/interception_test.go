package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/core/trace"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
	protobuf "google.golang.org/protobuf/proto"
)

// listen serves the source until the test ends, and returns the socket's path.
func listen(t *testing.T, source Source) string {
	t.Helper()
	path, end := start(t, source)
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	})
	return path
}

// start serves on a socket at path until end is called.
func start(t *testing.T, source Source) (path string, end func() error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "s")
	s, err := Listen(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(source) }()
	return path, func() error { return errors.Join(s.Close(), <-served) }
}

func TestInterception(t *testing.T) {
	manifest := &wire.Manifest{Name: "mknod", Syscalls: []*wire.Syscall{{Name: "mknod", When: []*wire.Match{{
		All: []*wire.Condition{{Arg: 1, Mask: 1<<64 - 1, Value: 1 << 63}},
	}}}}}
	var asked policy.Description
	path := listen(t, Source{Interception: func(c policy.Description) (*Interception, error) {
		asked = c
		return &Interception{Socket: "/run/oci", Manifests: Manifests{manifest}}, nil
	}})
	liar := uint32(4242)
	got, err := GetInterception(t.Context(), path, policy.Description{
		ID: "web", Runtime: config.RuntimeOCI, Annotations: map[string]string{"k": strings.Repeat("v", 1<<20)}, PeerUID: &liar,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Socket != "/run/oci" || len(got.Manifests) != 1 || !protobuf.Equal(got.Manifests[0], manifest) {
		t.Errorf("answer %+v", got)
	}
	if asked.ID != "web" || len(asked.Annotations["k"]) != 1<<20 {
		t.Errorf("asked for %q", asked.ID)
	}
	if asked.PeerUID == nil || int(*asked.PeerUID) != os.Getuid() {
		t.Errorf("peer %v, want this process's user", asked.PeerUID)
	}
}

func TestInterceptionErrors(t *testing.T) {
	path := listen(t, Source{Interception: func(policy.Description) (*Interception, error) { return &Interception{}, nil }})
	if got, err := GetInterception(t.Context(), path, policy.Description{}); err != nil || len(got.Manifests) != 0 {
		t.Errorf("nothing to notify: %+v, %v", got, err)
	}
	for name, body := range map[string]string{
		"not JSON": "{", "other JSON": "[]", "too long": `{"id": "` + strings.Repeat("x", maxDescription) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			err := ask(t.Context(), path, http.MethodPost, interceptionPath, strings.NewReader(body), &Interception{})
			if err == nil || !strings.Contains(err.Error(), "400") {
				t.Errorf("error %v, want status 400", err)
			}
		})
	}
	t.Run("no room", func(t *testing.T) {
		full := listen(t, Source{Interception: func(policy.Description) (*Interception, error) { return nil, errors.New("no room\nfor it") }})
		_, err := GetInterception(t.Context(), full, policy.Description{})
		if err == nil || !strings.HasSuffix(err.Error(), ": no room\nfor it") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		_, err := GetInterception(t.Context(), path+"x", policy.Description{})
		if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "intercede serve") {
			t.Errorf("error %v", err)
		}
	})
}

// Who does not answer, or answers something else, is named, with what to do.
func TestAskSaysWho(t *testing.T) {
	dir, err := os.MkdirTemp("", "ctl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	asked := map[string]func(context.Context) error{
		"status":  func(ctx context.Context) error { _, err := GetStatus(ctx, path); return err },
		"reload":  func(ctx context.Context) error { _, err := Reload(ctx, path, true); return err },
		"upgrade": func(ctx context.Context) error { _, err := StartUpgrade(ctx, path); return err },
		"revoke":  func(ctx context.Context) error { _, err := Revoke(ctx, path, "x", ""); return err },
		"trace": func(ctx context.Context) error {
			return Trace(ctx, path, trace.Filter{}, func(int) {}, func(TracedCall) error { return nil })
		},
	}
	fails := func(what string, want ...string) {
		t.Helper()
		limit := 30 * time.Second
		if what == "hung" {
			limit = time.Second
		}
		for name, ask := range asked {
			ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errNoAnswer)
			err := ask(ctx)
			cancel()
			for _, text := range want {
				if err == nil || !strings.Contains(err.Error(), text) {
					t.Errorf("%s: %s: %v, want %q", what, name, err, text)
				}
			}
		}
	}
	fails("missing", "start the daemon", "intercede serve")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var answer atomic.Value // a string; none yet: nothing is answered
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			text, answers := answer.Load().(string)
			if !answers {
				defer conn.Close()
				continue
			}
			conn.Read(make([]byte, 1024))
			fmt.Fprint(conn, text)
			conn.Close()
		}
	}()
	fails("hung", fmt.Sprintf("process %d ", os.Getpid()), "does not answer in time", "restart it")
	for _, text := range []string{"SSH-2.0-x\r\n", "HTTP/1.0 404 Not Found\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nhello"} {
		answer.Store(text)
		fails(text, "does not answer as intercede does")
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	fails("ended", "has ended", "intercede serve")
}
