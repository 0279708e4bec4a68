package bpf

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

const (
	// maxLicense is how much of a license the kernel reads (bpf_prog_load, kernel/bpf/syscall.c), in bytes with its
	// NUL.
	maxLicense = 128
	// maxLog bounds the verifier's log, in bytes.
	maxLog = 2 << 20
	// maxLogSize is the largest size of a log's buffer that any kernel takes (bpf_verifier_log_attr_valid).
	maxLogSize = 1<<30 - 1
)

// load answers BPF_PROG_LOAD. See Handle for why Next is safe.
func (c call) load(ctx context.Context) (sdk.Response, error) {
	l, ok := parseLoad(c.attr)
	if !ok {
		return sdk.Next().Because(notOfDevices, ""), nil
	}
	// One program of a container at a time, so that it has no more than it may.
	if err := enter(ctx, c.loading); err != nil {
		return sdk.Response{}, err
	}
	defer leave(c.loading)
	p, err := c.copyProgram(ctx, l)
	if err != nil {
		return sdk.Response{}, err
	}
	if err := p.check(); err != nil {
		return sdk.Continue().Because(programNotTaken, err.Error()), nil // bpf_prog_load reads the program again, and asks for CAP_BPF or a token
	}
	v, err := c.loadWithinRoom(ctx, p)
	if err != nil {
		return sdk.Response{}, err
	}
	return c.loaded(p, v), nil
}

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
	response := v.refused.response()
	if v.refused == nil {
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
//
// The kernel is asked about a faulty one too, since it depends on its version which of several faults it looks for
// first. It gets NULL for the instructions then, which no process can read, so that it cannot load them.
type program struct {
	loadAttr
	insns   []byte
	license []byte   // with its NUL
	faulty  *refusal // nil: nothing that is seen without the kernel
}

// check says what of the program the plugin does not load.
func (p program) check() error {
	if p.faulty != nil {
		return nil
	}
	if p.progType == unix.BPF_PROG_TYPE_CGROUP_DEVICE {
		return checkProgram(p.insns)
	}
	if !bytes.Equal(p.insns, probeInsns) {
		return errors.New("of network programs only the one with which libraries look for BPF_PROG_ATTACH is loaded")
	}
	return nil
}

// copyProgram copies what the attr points to, within the limits of the container and the kernel.
func (c call) copyProgram(ctx context.Context, l loadAttr) (program, error) {
	p := program{loadAttr: l, faulty: c.checkSize(l)}
	if p.faulty != nil {
		p.insnCnt = 0 // which the kernel refuses in the same way
	}
	var err error
	if p.insns, err = c.readInstructions(ctx, p.loadAttr); err != nil {
		return p, err
	}
	license, fault, err := c.req.ReadString(ctx, l.license, maxLicense)
	if err != nil {
		return p, err
	}
	if fault == unix.ENAMETOOLONG {
		license, fault = "", 0 // no name of a license is that long: it is none that the kernel knows
	}
	if fault == 0 {
		p.license = append([]byte(license), 0)
	}
	if p.faulty == nil && (p.insns == nil || p.license == nil) {
		p.faulty = wrong(unix.EFAULT)
	}
	if p.faulty != nil {
		p.insns = nil // what is not checked is not loaded
	}
	return p, nil
}

// checkSize returns nil for a program of as many instructions as the container may load.
func (c call) checkSize(l loadAttr) *refusal {
	if l.insnCnt > 0 && l.insnCnt <= uint32(c.config.MaxInstructions) {
		return nil
	}
	return &refusal{unix.E2BIG, programSize, fmt.Sprintf("%d instructions, max_instructions is %d", l.insnCnt, c.config.MaxInstructions)}
}

// readInstructions returns nil for none, and for some that cannot be read.
func (c call) readInstructions(ctx context.Context, l loadAttr) ([]byte, error) {
	if l.insnCnt == 0 {
		return nil, nil
	}
	insns := make([]byte, 0, int(l.insnCnt)*insnSize)
	for len(insns) < cap(insns) {
		chunk, fault, err := c.req.Read(ctx, l.insns+uint64(len(insns)), min(cap(insns)-len(insns), sdk.MaxRead))
		if fault != 0 || err != nil {
			return nil, err
		}
		insns = append(insns, chunk...)
	}
	return insns, nil
}

// verdict is what the kernel said of a program.
type verdict struct {
	fd          int      // if it is not refused
	refused     *refusal // nil: it is loaded
	log         []byte   // with its NUL
	logTrueSize uint32
}

func (v verdict) close() {
	if v.refused == nil {
		unix.Close(v.fd)
	}
}

// loadWithinRoom loads the program if the container may have one more. A faulty one takes no room.
func (c call) loadWithinRoom(ctx context.Context, p program) (verdict, error) {
	if p.faulty != nil {
		return c.verify(ctx, p)
	}
	room, err := c.programs.room(ctx, c.req)
	if err != nil {
		return verdict{}, err
	}
	if !room {
		return verdict{refused: &refusal{unix.ENOMEM, tooManyPrograms, fmt.Sprintf("max_programs is %d", c.config.MaxPrograms)}}, nil
	}
	v, err := c.verify(ctx, p)
	if err != nil || v.refused != nil {
		return v, err
	}
	id, errno := programID(v.fd)
	if errno != 0 {
		v.close()
		return verdict{}, fmt.Errorf("the id of a loaded program: %w", errno)
	}
	if err := c.programs.add(ctx, c.req, id); err != nil {
		v.close()
		return verdict{}, err
	}
	return v, nil
}

// loadCapabilities are what loading a program takes. With CAP_SYS_ADMIN or CAP_PERFMON the verifier would let it read
// pointers of the kernel, and leave away its protection from Spectre.
var loadCapabilities = target.CapabilitySet(unix.CAP_BPF, unix.CAP_NET_ADMIN)

// stepLoad names the step whose errno is the caller's.
const stepLoad = "load the program"

// verify loads the program in a process of its own, in the caller's cgroups, which the kernel then charges for the time
// and the memory. It is killed when ctx ends.
func (c call) verify(ctx context.Context, p program) (verdict, error) {
	output, err := newOutput(min(p.logSize, maxLog))
	if err != nil {
		return verdict{}, err
	}
	defer output.free()
	s := &target.Steps{}
	release, err := c.caller.JoinCgroups(s, "cpu", "cpuacct", "memory")
	if err != nil {
		return verdict{}, err
	}
	defer release()
	s.SetCapabilities(loadCapabilities, loadCapabilities, 0)
	s.Keep(p)
	*output.attr = p.order(output.log)
	s.Add(stepLoad, unix.SYS_BPF, cmdLoad, unsafe.Pointer(output.attr), int(unsafe.Sizeof(*output.attr)))
	fd, err := s.Open(ctx, c.req.Container.UserNamespace)
	v := verdict{fd: fd}
	var failed *target.StepError
	switch {
	case errors.As(err, &failed) && failed.What == stepLoad:
		v.refused = &refusal{failed.Errno, verifierRefused, ""}
		if p.faulty != nil {
			v.refused.code, v.refused.text = p.faulty.code, p.faulty.text
		}
	case err != nil:
		return verdict{}, err
	}
	v.log, v.logTrueSize = bytes.Clone(written(output.log)), output.attr.logTrueSize
	return v, nil
}

// output is what the kernel writes about a program, in memory that the process which loads it shares with this one.
type output struct {
	memory []byte
	attr   *progLoad
	log    []byte
}

func newOutput(logSize uint32) (output, error) {
	const attrSize = int(unsafe.Sizeof(progLoad{}))
	// One byte more: also an empty log has an address.
	memory, err := unix.Mmap(-1, 0, attrSize+int(logSize)+1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return output{}, fmt.Errorf("mmap: %w", err)
	}
	return output{memory, (*progLoad)(unsafe.Pointer(&memory[0])), memory[attrSize : attrSize+int(logSize)]}, nil
}

func (o output) free() { unix.Munmap(o.memory) }

// order is the attr by which the kernel loads the program and logs to the buffer.
func (p program) order(log []byte) progLoad {
	a := progLoad{
		progType: p.progType, insnCnt: p.insnCnt,
		insns: unsafe.Pointer(unsafe.SliceData(p.insns)), license: unsafe.Pointer(unsafe.SliceData(p.license)),
		logLevel: p.logLevel, logSize: uint32(len(log)),
		kernVersion: p.kernVersion, flags: p.flags, name: p.name, attachType: p.attachType, logTrueSize: p.logTrueSize,
	}
	if p.logBuf != 0 {
		a.logBuf = unsafe.Pointer(unsafe.SliceData(log))
	}
	if p.logSize > maxLogSize {
		a.logSize = p.logSize // refused before the buffer is used
	}
	return a
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
