package conformance

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// told is what each plugin of the tests can be told.
type told struct {
	Quiet bool `json:"quiet" help:"take no call of sync(2)"`
}

// become makes this process one of the plugins below, if it was started as that.
func become() {
	name, ok := strings.CutPrefix(filepath.Base(os.Args[0]), wire.BinaryPrefix)
	if !ok {
		return
	}
	sdk.Serve(plugins[name](name))
}

// install makes a program of the plugin, and returns its path.
func install(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), wire.BinaryPrefix+name)
	if err := os.Symlink("/proc/self/exe", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// manifest is that of a plugin of getppid(2), which nothing is wrong with.
func manifest(name string) sdk.Manifest {
	return sdk.Manifest{
		Name: name, Version: "1", Description: "answers getppid", OnFailure: sdk.FailErrno(unix.EIO),
		Syscalls: []sdk.Syscall{{Name: "getppid", Repeat: sdk.RepeatSafe, Arguments: []sdk.Argument{{Name: "none"}}}},
	}
}

type handle = func(ctx context.Context, req *sdk.Request, c *told) (sdk.Response, error)

// always makes a plugin of one that answers so.
func always(h handle, changes ...func(*sdk.Manifest)) func(string) sdk.Handler {
	return func(name string) sdk.Handler {
		m := manifest(name)
		for _, change := range changes {
			change(&m)
		}
		return sdk.Func(m, told{}, h)
	}
}

func answer(r sdk.Response) handle {
	return func(context.Context, *sdk.Request, *told) (sdk.Response, error) { return r, nil }
}

// opened keeps what the plugin "leaks" opens.
var opened []*os.File

// plugins are the plugins of the tests. Most do one thing that none should.
var plugins = map[string]func(name string) sdk.Handler{
	"good": always(func(ctx context.Context, req *sdk.Request, _ *told) (sdk.Response, error) {
		privileged, err := req.Privileged(ctx, unix.CAP_SYS_ADMIN)
		if err != nil || !privileged {
			return sdk.Next(), err
		}
		null, err := os.Open("/")
		if err != nil {
			return sdk.Response{}, err
		}
		return sdk.AddFD(null, true), nil
	}, func(m *sdk.Manifest) {
		m.Capabilities = []string{"CAP_CHOWN"}
		m.Syscalls = append(m.Syscalls, sdk.Syscall{Name: "sync", If: []string{"quiet"}})
	}),
	"hangs":    always(func(context.Context, *sdk.Request, *told) (sdk.Response, error) { select {} }),
	"nonsense": always(answer(sdk.Errno(0))),
	"fails": always(func(context.Context, *sdk.Request, *told) (sdk.Response, error) {
		return sdk.Response{}, errors.New("no luck")
	}),
	"nested":   always(answer(sdk.Return(0)), func(m *sdk.Manifest) { m.Capabilities = []string{"CAP_CHOWN"} }),
	"harmless": always(answer(sdk.Return(0))),
	"refused": always(func(context.Context, *sdk.Request, *told) (sdk.Response, error) {
		unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
		return sdk.Return(0), nil
	}),
	"leaks": always(func(context.Context, *sdk.Request, *told) (sdk.Response, error) {
		root, err := os.Open("/")
		opened = append(opened[:len(opened):len(opened)], root)
		return sdk.Return(0), err
	}),
	"dies": always(func(_ context.Context, req *sdk.Request, _ *told) (sdk.Response, error) {
		if _, fault := req.Bytes(0); fault != 0 {
			os.Exit(3)
		}
		return sdk.Return(0), nil
	}, func(m *sdk.Manifest) {
		m.Syscalls = []sdk.Syscall{{Name: "sethostname", Reads: []sdk.Read{sdk.ReadBytes(0, 1, 64)}}}
	}),
	"shouts": always(func(context.Context, *sdk.Request, *told) (sdk.Response, error) {
		return sdk.Response{}, errors.New("\x1b[2Jgone\n")
	}),
	"busy": always(answer(sdk.Next()), func(m *sdk.Manifest) {
		m.Syscalls = []sdk.Syscall{{Name: "openat", Arguments: []sdk.Argument{{Name: "any"}}}, {Name: "clone"}}
	}),
	"two_lines": always(answer(sdk.Return(0)), func(m *sdk.Manifest) { m.Description = "two\nlines" }),
	"bare": always(answer(sdk.Next()), func(m *sdk.Manifest) {
		m.Description, m.Capabilities = "", []string{"CAP_SYS_MODULE"}
		m.Syscalls = []sdk.Syscall{{Name: "symlink"}}
	}),
	"refuses":   func(name string) sdk.Handler { return &once{name: name, refuse: true} },
	"twice":     func(name string) sdk.Handler { return &once{name: name, class: sdk.RepeatSafe} },
	"never":     func(name string) sdk.Handler { return &once{name: name, class: sdk.RepeatNever} },
	"unchecked": func(name string) sdk.Handler { return &once{name: name, class: sdk.RepeatCheck} },
	"checked":   func(name string) sdk.Handler { return &once{name: name, class: sdk.RepeatCheck, checks: true} },
}

// once is a plugin that does a call once: whoever makes it again gets EEXIST.
type once struct {
	name   string
	class  sdk.Repeat
	refuse bool
	checks bool
}

func (h *once) Manifest() sdk.Manifest {
	m := manifest(h.name)
	m.Syscalls = []sdk.Syscall{{
		Name: "chdir", Repeat: h.class, Reads: []sdk.Read{sdk.ReadPath(0)}, Arguments: []sdk.Argument{{Name: "path"}},
	}}
	return m
}

func (h *once) Attach(_ context.Context, c sdk.Container, _ sdk.Settings) (sdk.Session, error) {
	if h.refuse {
		return nil, io.ErrNoProgress
	}
	s := onceSession{kept: c.Kept}
	if h.checks {
		return checker{s}, nil
	}
	return s, nil
}

type onceSession struct{ kept map[string][]byte }

func (s onceSession) Handle(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	path, fault := req.String(0)
	switch {
	case fault != 0:
		return sdk.Errno(fault), nil
	case !strings.HasPrefix(path, "intercede-"):
		return sdk.Next(), nil // the caller's own, while it starts a child
	case s.kept[path] != nil:
		return sdk.Errno(unix.EEXIST), nil
	}
	return sdk.Return(0), req.Keep(ctx, path, []byte{1})
}

type checker struct{ onceSession }

func (c checker) Check(_ context.Context, req *sdk.Request) (sdk.Response, bool, error) {
	path, _ := req.String(0)
	return sdk.Return(0), c.kept[path] != nil, nil
}
