package testplugin

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

type handler struct {
	name   string
	change Change
}

// Manifest implements sdk.Handler. A name with "errno" in it fails with EIO, others continue; one with "mknod" has
// CAP_MKNOD; one with "any" in it serves any container; of one with "never" calls must not continue; with "safe" or
// "check" getppid is repeated so.
func (h *handler) Manifest() sdk.Manifest {
	m := sdk.Manifest{
		Name: h.name, Version: "1", Description: "a plugin for tests",
		Syscalls: []sdk.Syscall{
			{Name: "getppid", When: []sdk.Match{{{Arg: 5, Mask: ^uint64(0), Value: Magic}}}},
			{
				Name: "sethostname", Reads: []sdk.Read{sdk.ReadBytes(0, 1, MaxBytes)},
				Arguments: []sdk.Argument{{Name: "name"}, {Name: "len", Format: sdk.Size}},
			},
			{Name: "getsid", If: []string{"switch"}},
			{Name: "chdir", Reads: []sdk.Read{sdk.ReadPath(0)}, Arguments: []sdk.Argument{{Name: "path"}}},
		},
		Settings: []sdk.Setting{
			{Key: "gate", Type: sdk.String, Default: "", Help: "abstract socket of the test"},
			{Key: "refuse", Type: sdk.String, Default: "", Help: "why every container is refused"},
			{Key: "attach", Type: sdk.String, Default: "", Help: "hold: at the gate; exit: the process"},
			{Key: "switch", Type: sdk.String, Default: "", Help: "switches getsid on, which gives its length"},
		},
		// The gates are there; what it says of itself are the test's numbers.
		Uses:         sdk.Uses{Host: []string{"/tmp"}, HostPIDs: true},
		OnFailure:    sdk.FailContinue(),
		AnyContainer: strings.Contains(h.name, "any"),
		Reasons:      []sdk.Reason{{Code: "trial", Help: "A test asked for it: ask otherwise."}},
	}
	m.NeverContinue = strings.Contains(h.name, "never")
	if m.NeverContinue || strings.Contains(h.name, "errno") {
		m.OnFailure = sdk.FailErrno(syscall.EIO)
	}
	switch {
	case strings.Contains(h.name, "safe"):
		m.Syscalls[0].Repeat = sdk.RepeatSafe
	case strings.Contains(h.name, "check"):
		m.Syscalls[0].Repeat = sdk.RepeatCheck
	}
	if strings.Contains(h.name, "mknod") {
		m.Capabilities = []string{"CAP_MKNOD"}
	}
	switch h.change {
	case OtherTakes:
		m.Syscalls = append(m.Syscalls, sdk.Syscall{Name: "sync"})
	case AsksMore:
		m.Capabilities = append(m.Capabilities, "CAP_CHOWN")
		fallthrough
	case NewVersion:
		m.Version = "2"
	}
	return m
}

// Magic is what the last register of a getppid call must be: others are not the plugin's.
const Magic = 0x7e57

// MaxBytes bounds what is read of a sethostname call.
const MaxBytes = 64

type settings struct {
	Gate   string `json:"gate"`
	Refuse string `json:"refuse"`
	Attach string `json:"attach"`
	Switch string `json:"switch"`
}

// Attach implements sdk.Handler.
func (h *handler) Attach(ctx context.Context, c sdk.Container, text sdk.Settings) (sdk.Session, error) {
	s := &session{id: c.ID, kept: c.Kept, features: len(c.Features)}
	if err := text.Decode(&s.settings); err != nil {
		return nil, err
	}
	if s.Refuse != "" {
		return nil, errors.New(s.Refuse)
	}
	switch s.settings.Attach {
	case "hold":
		return s, s.gate("attach", nil)
	case "exit":
		os.Exit(3)
	}
	return s, nil
}

type session struct {
	settings
	id   string
	kept map[string][]byte

	features int
}

func (s *session) Close() error { return nil }

// gate tells the test that it is there, and returns when the test opens, or ends arrive.
func (s *session) gate(what string, ends <-chan struct{}) error {
	conn, err := net.Dial("unix", s.Gate)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, what); err != nil {
		return err
	}
	opened := make(chan struct{})
	go func() {
		conn.Read(make([]byte, 1))
		close(opened)
	}()
	select {
	case <-opened:
		return nil
	case <-ends:
		fmt.Fprintln(conn, "context")
		return errors.New("the context ended")
	}
}

func (s *session) Handle(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	switch req.Syscall {
	case "sethostname":
		data, fault := req.Bytes(0)
		return answer(int64(len(data)), fault), nil
	case "getsid":
		return sdk.Return(int64(len(s.Switch))), nil
	case "chdir":
		path, fault := req.Path(0)
		return answer(int64(len(path)), fault), nil
	}
	if req.Args[3] != 0 {
		if err := s.gate("first", nil); err != nil {
			return sdk.Response{}, err
		}
	}
	return s.perform(ctx, req, Op(req.Args[0]), req.Args[1], req.Args[2])
}

// Check implements sdk.Checker.
func (s *session) Check(_ context.Context, req *sdk.Request) (sdk.Response, bool, error) {
	return sdk.Return(int64(req.Args[1])), Op(req.Args[0]) == ExitDone, nil
}

func answer(value int64, fault syscall.Errno) sdk.Response {
	if fault != 0 {
		return sdk.Errno(fault)
	}
	return sdk.Return(value)
}

func (s *session) perform(ctx context.Context, req *sdk.Request, op Op, a, b uint64) (sdk.Response, error) {
	switch op {
	case Return:
		return sdk.Return(int64(a)), nil
	case Errno:
		return sdk.Errno(syscall.Errno(a)), nil
	case Continue:
		return sdk.Continue(), nil // the kernel's getppid needs no check
	case Next:
		return sdk.Next(), nil
	case Explain:
		return sdk.Next().Because("trial", strings.Repeat("\n", int(a))), nil
	case ExplainOther:
		return sdk.Errno(syscall.EXDEV).Because("other", "it is not declared"), nil
	case Error:
		return sdk.Response{}, errors.New("it did not work")
	case LieGone:
		return sdk.Response{}, sdk.ErrGone
	case Panic:
		panic("ouch")
	case Exit:
		os.Exit(3)
	case CrashLater:
		go panic("ouch")
		<-ctx.Done()
	case Zero:
		return sdk.Response{}, nil
	case Write:
		return sdk.Return(7).Write(a, []byte(strings.Repeat("\x5a", int(b)))), nil
	case AddFD:
		return s.addFD(a != 0)
	case AddBadFD:
		file := os.NewFile(9999, "not open")
		return sdk.AddFD(file, true), nil
	case Read:
		data, fault, err := req.Read(ctx, a, 1)
		if err != nil || fault != 0 {
			return sdk.Errno(fault), err
		}
		return sdk.Return(int64(data[0])), nil
	case Hold:
		return sdk.Return(int64(a)), s.gate(fmt.Sprint(a), ctx.Done())
	case Ignore:
		return sdk.Return(int64(a)), s.gate(fmt.Sprint(a), nil)
	case Shout:
		line := strings.Repeat("x", 1000)
		for range a {
			fmt.Println(line)
			fmt.Fprintln(os.Stderr, line)    // to the broker over gRPC, as go-plugin has it
			unix.Write(2, []byte(line+"\n")) // and by itself
		}
		return sdk.Return(0), nil
	case Allocate:
		return sdk.Return(0), allocate(int(a) << 20)
	case CloseServer:
		return sdk.Return(0), closeSockets(a != 0)
	case ExitDone:
		os.Exit(3)
	case ExitOnce:
		if !req.Again {
			os.Exit(3)
		}
		return sdk.Return(int64(a)), nil
	case Keep:
		if err := req.Keep(ctx, fmt.Sprint(a), make([]byte, b)); err != nil {
			return sdk.Errno(syscall.EDQUOT), nil
		}
		return sdk.Return(0), nil
	case Forget:
		return sdk.Return(0), req.Forget(ctx, fmt.Sprint(a))
	case Kept:
		value, there := s.kept[fmt.Sprint(a)]
		if !there {
			return sdk.Errno(syscall.ENODATA), nil
		}
		return sdk.Return(int64(len(value))), nil
	case Speak:
		for range a {
			speak(req)
		}
		return sdk.Return(0), nil
	case Features:
		return sdk.Return(int64(s.features)), nil
	case Identify:
		return sdk.Return(int64(os.Getpid())), nil
	}
	return sdk.Response{}, fmt.Errorf("no such op: %d", op)
}

// addFD gives the caller a pipe's end whose other end goes through the gate.
func (s *session) addFD(closeOnExec bool) (sdk.Response, error) {
	conn, err := net.Dial("unix", s.Gate)
	if err != nil {
		return sdk.Response{}, err
	}
	defer conn.Close()
	file, err := conn.(*net.UnixConn).File()
	return sdk.AddFD(file, closeOnExec), err
}

// speak logs at all levels, and as what knows nothing of the log does.
func speak(req *sdk.Request) {
	slog.Debug("says debug")
	slog.Info("says info", "key", slog.GroupValue(slog.Int("a", 1)))
	slog.Warn("says warn")
	slog.Error("says error")
	log.Print("says by log")
	req.Log().Info("says of the call")
	fmt.Fprintln(os.Stderr, "says on standard error")
	unix.Write(2, []byte("says on the descriptor\n"))
}

func allocate(n int) error {
	memory := make([]byte, n)
	for i := 0; i < n; i += os.Getpagesize() {
		memory[i] = 1
	}
	return nil
}

// closeSockets shuts the process's sockets down, the lifeline excepted, and its lanes if they are kept.
func closeSockets(keepLanes bool) error {
	lifeline, err := strconv.Atoi(os.Getenv(wire.LifelineEnv))
	if err != nil {
		return err
	}
	for fd := 3; fd < 100; fd++ {
		if fd == lifeline {
			continue
		}
		domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil || domain != unix.AF_UNIX {
			continue
		}
		if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind == unix.SOCK_SEQPACKET && keepLanes {
			continue
		}
		unix.Shutdown(fd, unix.SHUT_RDWR)
	}
	return nil
}
