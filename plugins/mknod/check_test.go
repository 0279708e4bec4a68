package mknod

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// leave makes a file or a node in the caller's place, as an earlier process of the plugin may have done when it died.
func leave(ctx context.Context, req *sdk.Request, path string, mode uint32, owner int) error {
	caller, err := req.Target(ctx)
	if err != nil {
		return err
	}
	var failed error
	err = caller.Do(target.CapabilitySet(unix.CAP_MKNOD, unix.CAP_CHOWN), func() error {
		unix.Umask(0)
		failed = errors.Join(unix.Mknod(path, mode|0o666, int(unix.Mkdev(1, 3))), unix.Lchown(path, owner, owner))
		return nil
	})
	return errors.Join(err, failed)
}

// TestCheck has a call come again, with what an earlier process, or somebody else, has left at its path.
func TestCheck(t *testing.T) {
	const root = sdktest.HostID
	const tick = 20 * time.Millisecond // longer than one of the clock that stamps files
	for name, test := range map[string]struct {
		mode  uint32        // of what is left; 0: nothing is
		owner int           // of it
		age   time.Duration // before the call
		done  bool
		want  string // of the call
	}{
		"nothing":    {0, 0, 0, false, "ok"},
		"node":       {unix.S_IFCHR, root, 0, true, "ok"},
		"before":     {unix.S_IFCHR, root, tick, false, "EEXIST"},
		"block":      {unix.S_IFBLK, root, 0, false, "EEXIST"},
		"of another": {unix.S_IFCHR, root + 1, 0, false, "EEXIST"},
		"pipe":       {unix.S_IFIFO, root, 0, false, "EEXIST"},
	} {
		for _, place := range []string{"/tmp", "/mnt"} { // of the host's, and of the container's own
			t.Run(name+place, func(t *testing.T) {
				done := false
				around := sdktest.Around{Handler: handler{}}
				around.Handle = func(ctx context.Context, req *sdk.Request, next sdk.Session) (sdk.Response, error) {
					if test.mode != 0 {
						if err := leave(ctx, req, place+"/n", test.mode, test.owner); err != nil {
							return sdk.Response{}, err
						}
					}
					if test.age > 0 {
						req.Received = time.Now().Add(test.age)
					}
					var response sdk.Response
					var err error
					if response, done, err = next.(sdk.Checker).Check(ctx, req); done || err != nil {
						return response, err
					}
					return next.Handle(ctx, req)
				}
				c := sdktest.NewContainer(t, around)
				result := c.Call(t, "umask 0", "mount tmpfs none /mnt 0 -", "sys mknod s:"+place+"/n S_IFCHR|0666 dev:1:3")
				if got := sdktest.Errnos(result.Lines(t)); got != test.want || done != test.done {
					t.Errorf("got %s, done %v; want %s, %v", got, done, test.want, test.done)
				}
				if test.want != "ok" {
					return
				}
				if got := sdktest.Errnos(c.Call(t, "sys open s:"+place+"/n O_RDWR 0").Lines(t)); place == "/mnt" && got != "ok" {
					t.Errorf("opening it: %s", got)
				}
			})
		}
	}
}
