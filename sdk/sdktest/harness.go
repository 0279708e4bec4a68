package sdktest

import (
	"bytes"
	"context"
	"maps"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// Harness is a handler at the other end of a real lane, with no kernel at this end.
type Harness struct {
	*plugin
	t testing.TB
}

// Serve serves the handler to fake calls, in the test's own process, until the end of the test. A manifest that the
// broker would refuse fails the test.
//
//	session := sdktest.Serve(t, handler).Attach(sdk.Container{ID: "c1"}, map[string]any{"devices": []string{"c 1:3"}})
//	outcome := session.Handle(t.Context(), sdktest.Call{
//		Syscall: "mknod",
//		Args:    [6]uint64{0, unix.S_IFCHR | 0o666, unix.Mkdev(1, 3)},
//		Reads:   map[int]any{0: "/dev/null"},
//	})
//	if outcome.String() != "value 0" { ... }
func Serve(t testing.TB, h sdk.Handler) *Harness {
	t.Helper()
	return &Harness{t: t, plugin: serveHere(t, h)}
}

// Attach attaches a container until the end of the test. Settings override the manifest's defaults. A refusal fails the
// test; see Refusal.
func (h *Harness) Attach(container sdk.Container, settings map[string]any) *Session {
	h.t.Helper()
	session, err := h.session(container, settings)
	if err != nil {
		h.t.Fatalf("sdktest: attach: %v", err)
	}
	return session
}

// Refusal is why the container cannot be attached: a setting that does not fit the manifest, or the handler's own
// error. It is nil if the container was attached.
func (h *Harness) Refusal(container sdk.Container, settings map[string]any) error {
	h.t.Helper()
	_, err := h.session(container, settings)
	return err
}

// Findings are what the handler, if it is a Validator, says of settings, which override the manifest's defaults.
// Settings that do not fit the manifest fail the test.
func (h *Harness) Findings(settings map[string]any) (findings []sdk.Finding) {
	h.t.Helper()
	filled, err := fillSettings(h.manifest, settings)
	if err != nil {
		h.t.Fatalf("sdktest: settings: %v", err)
	}
	response, err := h.rpc.Validate(h.t.Context(), &wire.ValidateRequest{SettingsJson: string(filled)})
	if err != nil {
		h.t.Fatalf("sdktest: validate: %v", err)
	}
	for _, f := range response.GetFindings() {
		findings = append(findings, sdk.Finding{Key: f.GetKey(), Text: f.GetText(), Warning: f.GetWarning()})
	}
	return findings
}

func (h *Harness) session(container sdk.Container, overrides map[string]any) (*Session, error) {
	h.t.Helper()
	settings, err := fillSettings(h.manifest, overrides)
	if err != nil {
		return nil, err
	}
	kept := &wire.Store{}
	kept.Restore(maps.Clone(container.Kept))
	id, err := h.attach(h.t, container, settings, kept)
	if err != nil {
		return nil, err
	}
	return &Session{Harness: h, id: id, kept: kept}, nil
}

// Session is a container's use of the handler.
type Session struct {
	*Harness
	id    uint64
	kept  *wire.Store
	calls atomic.Uint64
}

// Kept is what the handler has kept about the container: give it to the Container of another session, as the broker
// does after the death of a plugin.
func (s *Session) Kept() map[string][]byte { return s.kept.Snapshot() }

// Call is a fake notification.
type Call struct {
	Syscall string
	Args    [6]uint64
	// Reads gives the memory that the manifest declares, by argument: a string, a []byte, or the syscall.Errno that
	// reading it gave. Each declared read must be there; one longer than declared becomes the fault that the broker
	// makes of it.
	Reads map[int]any
	// Memory is what Request.Read and ReadString find, by the address where it begins; elsewhere they get EFAULT.
	Memory map[uint64][]byte
	TID    int  // of Request.Target; 0: this process
	Gone   bool // the caller no longer waits: Request.CheckValid and Read give sdk.ErrGone
	Again  bool // an earlier process of the plugin had the call and died
}

// Handle has the handler answer the call. The context is the handler's: cancel it for a caller that dies, give it a
// deadline for the broker's, which is 10 s without. It may be called concurrently.
func (s *Session) Handle(ctx context.Context, call Call) Outcome {
	s.t.Helper()
	if call.TID == 0 {
		call.TID = os.Getpid()
	}
	d := &lane.Dialogue{}
	n := &d.Notification
	n.Id, n.Session, n.Syscall, n.Tid = s.calls.Add(1), s.id, call.Syscall, int32(call.TID)
	arch := arches()[0]
	n.Arch, n.Nr, n.Args = uint32(arch), numbers[arch][call.Syscall], call.Args[:]
	n.Reads = s.reads(call)
	n.Again, n.ReceivedNs = call.Again, linux.CoarseNow()
	timeout := defaultDeadline
	if deadline, ok := ctx.Deadline(); ok {
		timeout = time.Until(deadline)
	}
	lane.CaptureDeclared(&d.Captured, call.TID, s.syscall(call.Syscall).GetCaptures(), &call.Args)
	defer d.Captured.Close()
	response, added, err := s.handle(ctx, d, fakeCaller{call, s.kept}, timeout)
	if err != nil {
		return failed(err)
	}
	return outcomeOf(s.t, s.manifest, response, added)
}

// reads are the call's, in the order of the manifest's declarations.
func (s *Session) reads(call Call) []*wire.Memory {
	s.t.Helper()
	declared := s.syscall(call.Syscall).GetReads()
	var reads []*wire.Memory
	for _, d := range declared {
		value, ok := call.Reads[int(d.GetArg())]
		if !ok {
			s.t.Fatalf("sdktest: %s: the manifest declares a read of argument %d: give it in Call.Reads", call.Syscall, d.GetArg())
		}
		reads = append(reads, s.declaredRead(call, d, value))
	}
	if len(call.Reads) != len(declared) {
		s.t.Fatalf("sdktest: %s: Call.Reads has %d reads, the manifest declares %d", call.Syscall, len(call.Reads), len(declared))
	}
	return reads
}

func (s *Session) syscall(name string) *wire.Syscall {
	s.t.Helper()
	for _, declared := range s.manifest.GetSyscalls() {
		if declared.GetName() == name {
			return declared
		}
	}
	s.t.Fatalf("sdktest: the manifest has no syscall %q", name)
	return nil
}

func (s *Session) declaredRead(call Call, d *wire.Read, value any) *wire.Memory {
	s.t.Helper()
	var data []byte
	switch v := value.(type) {
	case syscall.Errno:
		return memory(nil, v)
	case string:
		data = []byte(v)
	case []byte:
		data = v
	default:
		s.t.Fatalf("sdktest: %s: read of argument %d is a %T: want a string, a []byte or a syscall.Errno", call.Syscall, d.GetArg(), v)
	}
	switch kind := d.GetKind().(type) {
	case *wire.Read_String_:
		if len(data)+1 > int(kind.String_.GetMax()) {
			return memory(nil, unix.ENAMETOOLONG)
		}
	case *wire.Read_Bytes:
		length := call.Args[kind.Bytes.GetLengthArg()]
		if length > uint64(kind.Bytes.GetMax()) {
			return memory(nil, unix.E2BIG)
		}
		if length != uint64(len(data)) {
			s.t.Fatalf("sdktest: %s: argument %d says %d bytes, Call.Reads has %d", call.Syscall, kind.Bytes.GetLengthArg(), length, len(data))
		}
	case *wire.Read_Struct:
		if len(data) != int(kind.Struct.GetSize()) {
			s.t.Fatalf("sdktest: %s: the struct of argument %d has %d bytes, Call.Reads has %d", call.Syscall, d.GetArg(), kind.Struct.GetSize(), len(data))
		}
	}
	return memory(data, 0)
}

// fakeCaller answers from a Call.
type fakeCaller struct {
	call Call
	kept *wire.Store
}

// Valid implements lane.Caller.
func (f fakeCaller) Valid() bool { return !f.call.Gone }

// Keep implements lane.Caller.
func (f fakeCaller) Keep(question *wire.Keep) *wire.Kept { return f.kept.Keep(question) }

// Capture implements lane.Caller.
func (f fakeCaller) Capture(question *wire.Capture) *capture.Set {
	return captureOf(f.call.TID, question, f.Valid)
}

// ReadMemory implements lane.Caller.
func (f fakeCaller) ReadMemory(question *wire.ReadMemory) *wire.Memory {
	data, n := f.from(question.GetAddress()), int(question.GetLength())
	end := bytes.IndexByte(data, 0)
	switch {
	case f.call.Gone:
		return memory(nil, unix.ESRCH)
	case n > wire.MaxRead:
		return memory(nil, unix.E2BIG)
	case question.GetString_() && end >= 0 && end < n:
		return memory(data[:end], 0)
	case question.GetString_() && len(data) >= n:
		return memory(nil, unix.ENAMETOOLONG)
	case question.GetString_() || len(data) < n:
		return memory(nil, unix.EFAULT)
	default:
		return memory(data[:n], 0)
	}
}

// from is the memory at address up to the end of its region.
func (f fakeCaller) from(address uint64) []byte {
	for start, data := range f.call.Memory {
		if address >= start && address-start < uint64(len(data)) {
			return data[address-start:]
		}
	}
	return nil
}

func memory(data []byte, fault syscall.Errno) *wire.Memory {
	return &wire.Memory{Data: data, Errno: int32(fault)}
}
