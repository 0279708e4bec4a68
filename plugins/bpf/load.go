package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"github.com/hashicorp/go-hclog"
	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

const (
	// maxLicense is how much of a license the kernel reads (bpf_prog_load, kernel/bpf/syscall.c), in bytes with its NUL.
	maxLicense = 128
	// maxLog bounds the verifier's log, in bytes.
	maxLog = 2 << 20
	// maxLogSize is the largest size of a log's buffer that any kernel takes (bpf_verifier_log_attr_valid).
	maxLogSize = 1<<30 - 1
	// maxAttempts bounds how often a program is loaded again that a signal interrupted; the Go runtime uses signals.
	maxAttempts = 5
)

// load answers BPF_PROG_LOAD. See Handle for why Continue is safe.
func (c call) load(ctx context.Context) (sdk.Response, error) {
	l, ok := parseLoad(c.attr)
	if !ok {
		return sdk.Continue(), nil
	}
	if err := c.begin(ctx); err != nil {
		return sdk.Response{}, err
	}
	p, errno, err := c.copyProgram(ctx, l)
	if errno != 0 || err != nil {
		c.end()
		return answer(errno, err)
	}
	if err := checkProgram(p.insns); err != nil {
		c.end()
		hclog.Default().Debug("not loaded", "container", c.req.Container.ID, "tid", c.req.TID, "reason", err)
		return sdk.Continue(), nil
	}
	v, err := c.verify(ctx, p)
	if err != nil {
		return sdk.Response{}, err
	}
	return c.loaded(p, v), nil
}

// begin waits until no other program of the container is being loaded: the largest take seconds, and hundreds of megabytes
// of memory meanwhile.
func (s *session) begin(ctx context.Context) error { return enter(ctx, s.loading) }

func (s *session) end() { leave(s.loading) }

// enter waits until it is the only one between enter and leave.
func enter(ctx context.Context, turn chan struct{}) error {
	select {
	case turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func leave(turn chan struct{}) { <-turn }

// loaded is the answer with what the verifier said.
func (c call) loaded(p program, v verdict) sdk.Response {
	response := sdk.Errno(v.errno)
	if v.errno == 0 {
		response = sdk.AddFD(os.NewFile(uintptr(v.fd), "program"), true)
	}
	if len(v.log) > 0 {
		response = response.Write(p.logBuf, v.log)
	}
	if c.attr.size >= loadLogTrueSize+4 && v.logTrueSize != p.logTrueSize {
		response = response.Write(c.req.Pointer(1)+loadLogTrueSize, binary.NativeEndian.AppendUint32(nil, v.logTrueSize))
	}
	return response
}

// program is a program as the caller had it when it was copied.
type program struct {
	loadAttr
	insns   []byte
	license []byte // with its NUL
}

// copyProgram copies what the attr points to, within the kernel's limits.
func (c call) copyProgram(ctx context.Context, l loadAttr) (program, syscall.Errno, error) {
	p := program{loadAttr: l}
	if l.insnCnt == 0 || l.insnCnt > maxInsns {
		return p, unix.E2BIG, nil
	}
	p.insns = make([]byte, 0, int(l.insnCnt)*insnSize)
	for len(p.insns) < cap(p.insns) {
		chunk, fault, err := c.req.Read(ctx, l.insns+uint64(len(p.insns)), min(cap(p.insns)-len(p.insns), sdk.MaxRead))
		if fault != 0 || err != nil {
			return p, fault, err
		}
		p.insns = append(p.insns, chunk...)
	}
	license, fault, err := c.req.ReadString(ctx, l.license, maxLicense)
	if fault == unix.ENAMETOOLONG {
		license, fault = "", 0 // no name of a license is that long: it is none that the kernel knows
	}
	p.license = append([]byte(license), 0)
	return p, fault, err
}

// verdict is what the kernel said of a program.
type verdict struct {
	fd          int // if errno is 0
	errno       syscall.Errno
	log         []byte // with its NUL
	logTrueSize uint32
}

// verify loads the program on a thread of its own, which may be at it longer than the caller waits, and then ends what begin
// began.
func (s *session) verify(ctx context.Context, p program) (verdict, error) {
	type result struct {
		verdict
		err error
	}
	done := make(chan result)
	target.GoOnThread(func() {
		defer s.end()
		v, err := s.loadProgram(p)
		select {
		case done <- result{v, err}:
		case <-ctx.Done():
			v.close()
		}
	})
	select {
	case r := <-done:
		return r.verdict, r.err
	case <-ctx.Done():
		return verdict{}, context.Cause(ctx)
	}
}

func (v verdict) close() {
	if v.fd > 0 {
		unix.Close(v.fd)
	}
}

// loadCapabilities are what loading a program takes. With CAP_SYS_ADMIN or CAP_PERFMON the verifier would let it read
// pointers of the kernel, and leave away its protection from Spectre.
var loadCapabilities = target.CapabilitySet(unix.CAP_BPF, unix.CAP_NET_ADMIN)

// loadProgram loads the program on the calling thread, which it leaves without the other capabilities.
func (s *session) loadProgram(p program) (verdict, error) {
	room, err := s.programs.room(len(p.insns) / insnSize)
	if err != nil {
		return verdict{}, err
	}
	if !room {
		return verdict{errno: unix.ENOMEM}, nil
	}
	if err := target.SetThreadCapabilities(loadCapabilities, loadCapabilities, 0); err != nil {
		return verdict{}, err
	}
	v := p.load()
	if v.errno != 0 {
		return v, nil
	}
	id, errno := programID(v.fd)
	if errno != 0 {
		v.close()
		return verdict{}, fmt.Errorf("the id of a loaded program: %w", errno)
	}
	s.programs.add(id, len(p.insns)/insnSize)
	return v, nil
}

// load has the kernel verify and load the program.
func (p program) load() verdict {
	size := min(p.logSize, maxLog)
	log := make([]byte, size, size+1) // also an empty one has an address
	a := progLoad{
		progType: unix.BPF_PROG_TYPE_CGROUP_DEVICE, insnCnt: p.insnCnt,
		insns: unsafe.Pointer(&p.insns[0]), license: unsafe.Pointer(&p.license[0]),
		logLevel: p.logLevel, logSize: size,
		kernVersion: p.kernVersion, flags: p.flags, name: p.name, attachType: p.attachType, logTrueSize: p.logTrueSize,
	}
	if p.logBuf != 0 {
		a.logBuf = unsafe.Pointer(unsafe.SliceData(log))
	}
	if p.logSize > maxLogSize {
		a.logSize = p.logSize // refused before the buffer is used
	}
	fd, errno := bpf(cmdLoad, &a)
	for attempt := 1; errno == unix.EAGAIN && attempt < maxAttempts; attempt++ {
		fd, errno = bpf(cmdLoad, &a)
	}
	return verdict{fd: fd, errno: errno, log: written(log), logTrueSize: a.logTrueSize}
}

// written is the part of the buffer that the kernel wrote: up to the last NUL behind text.
func written(log []byte) []byte {
	for end := len(log); end > 0; end-- {
		if log[end-1] != 0 {
			return log[:min(end+1, len(log))]
		}
	}
	return nil
}
