package sdk

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk/internal/acting"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

func TestAccessorsTruncate(t *testing.T) {
	r := &Request{Arch: ArchX86_64, Args: [6]uint64{
		0xdeadbeef_ffffff9c, // AT_FDCWD, with garbage above
		0x12345678_fff121a4, // a mode, with garbage above 16 bits
		0xffffffff_00000103, // dev 1:3
		0x00000000_abc00de1, // a large dev
		0x7fff_12345678,
		^uint64(0),
	}}
	if got := r.FD(0); got != unix.AT_FDCWD {
		t.Errorf("FD: %d", got)
	}
	if got := r.Int32(0); got != -100 {
		t.Errorf("Int32: %d", got)
	}
	if got := r.Uint32(0); got != 0xffffff9c {
		t.Errorf("Uint32: %#x", got)
	}
	if got := r.Mode(1); got != unix.S_IFCHR|0o644 {
		t.Errorf("Mode: %#o", got)
	}
	if got := r.Pointer(4); got != 0x7fff_12345678 {
		t.Errorf("Pointer: %#x", got)
	}
	r.Arch = ArchI386
	if got := r.Pointer(4); got != 0x12345678 {
		t.Errorf("Pointer of 32 bits: %#x", got)
	}
}

// TestDev follows new_decode_dev: 12 bits of major at 8, minor in the 8 bits below and the 12 above.
func TestDev(t *testing.T) {
	for name, test := range map[string]struct {
		arg          uint64
		major, minor uint32
	}{
		"null":          {0x103, 1, 3},
		"zero":          {0, 0, 0},
		"garbage above": {0xffffffff_00000103, 1, 3},
		"largest":       {0xffffffff, 0xfff, 0xfffff},
		"large minor":   {0x1230_0745, 7, 0x12345&0xfff00 | 0x45},
		"large major":   {0xfff00, 0xfff, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Request{Args: [6]uint64{test.arg}}
			if major, minor := r.Dev(0); major != test.major || minor != test.minor {
				t.Errorf("got %#x:%#x, want %#x:%#x", major, minor, test.major, test.minor)
			}
		})
	}
}

func TestArchIs32Bit(t *testing.T) {
	for arch, want := range map[Arch]bool{ArchX86_64: false, ArchI386: true, ArchAArch64: false, ArchARM: true} {
		if arch.Is32Bit() != want {
			t.Errorf("%#x: %v", uint32(arch), !want)
		}
	}
}

func TestDeclaredReads(t *testing.T) {
	r := &Request{Syscall: "mknod", reads: []snapshot{
		{arg: 0, data: []byte("/dev/null")}, {arg: 1, fault: unix.ENAMETOOLONG}, {arg: 2},
	}}
	if got, fault := r.Path(0); got != "/dev/null" || fault != 0 {
		t.Errorf("got %q, %v", got, fault)
	}
	if _, fault := r.Path(1); fault != unix.ENAMETOOLONG {
		t.Errorf("too long: %v", fault)
	}
	if _, fault := r.Path(2); fault != unix.ENOENT {
		t.Errorf("an empty path: %v", fault)
	}
	if got, fault := r.String(2); got != "" || fault != 0 {
		t.Errorf("an empty string: %q, %v", got, fault)
	}
	defer func() {
		if recover() == nil {
			t.Error("an undeclared read does not panic")
		}
	}()
	r.Bytes(3)
}

// fakeBroker answers a request's questions.
type fakeBroker struct {
	data     []byte
	fault    syscall.Errno
	valid    bool
	err      error
	asString bool
}

func (f *fakeBroker) ask(question *wire.PluginMessage) (*wire.BrokerMessage, []int, error) {
	f.asString = question.GetReadMemory().GetString_()
	switch {
	case f.err != nil:
		return nil, nil, f.err
	case question.GetReadMemory() != nil:
		memory := &wire.Memory{Data: f.data, Errno: int32(f.fault)}
		return &wire.BrokerMessage{Message: &wire.BrokerMessage_Memory{Memory: memory}}, nil, nil
	case question.GetCapture() != nil:
		set := &capture.Set{}
		if lane.Capture(set, os.Getpid(), question.GetCapture()); !f.valid {
			set.Close()
			set.Errno = int32(unix.ESRCH)
		}
		d := &lane.Dialogue{Captured: *set}
		return &wire.BrokerMessage{Message: &wire.BrokerMessage_Captured{Captured: d.CapturedMessage()}}, set.Descriptors, nil
	}
	return &wire.BrokerMessage{Message: &wire.BrokerMessage_Validity{Validity: &wire.Validity{Valid: f.valid}}}, nil, nil
}

// requestTo is a request whose questions the broker answers.
func requestTo(broker *fakeBroker) *Request {
	r := &Request{TID: os.Getpid(), broker: &source{asker: broker}, Container: &Container{}}
	made, err := acting.NewTarget(acting.Call{TID: r.TID, Source: r.broker})
	if err != nil {
		panic(err)
	}
	r.target = made.(*target.Target)
	return r
}

func TestRead(t *testing.T) {
	broken := errors.New("the connection is broken")
	for name, test := range map[string]struct {
		broker fakeBroker
		n      int
		fault  syscall.Errno
		err    error
	}{
		"data":   {fakeBroker{data: []byte("x")}, 1, 0, nil},
		"fault":  {fakeBroker{fault: unix.EFAULT}, 1, unix.EFAULT, nil},
		"gone":   {fakeBroker{fault: unix.ESRCH}, 1, 0, ErrGone},
		"broken": {fakeBroker{err: broken}, 1, 0, broken},
	} {
		t.Run(name, func(t *testing.T) {
			r := requestTo(&test.broker)
			data, fault, err := r.Read(t.Context(), 4096, test.n)
			if string(data) != string(test.broker.data) || fault != test.fault || !errors.Is(err, test.err) {
				t.Errorf("got %q, %v, %v", data, fault, err)
			}
			if _, _, err := r.ReadString(t.Context(), 4096, test.n); !errors.Is(err, test.err) || !test.broker.asString {
				t.Errorf("string: %v", err)
			}
		})
	}
	for _, n := range []int{-1, wire.MaxRead + 1} {
		r := requestTo(&fakeBroker{})
		if _, _, err := r.Read(t.Context(), 4096, n); err == nil {
			t.Errorf("a read of %d bytes is accepted", n)
		}
	}
}

func TestCheckValid(t *testing.T) {
	broken := errors.New("the connection is broken")
	for name, test := range map[string]struct {
		broker fakeBroker
		want   error
	}{
		"valid": {fakeBroker{valid: true}, nil}, "gone": {fakeBroker{}, ErrGone}, "broken": {fakeBroker{err: broken}, broken},
	} {
		r := requestTo(&test.broker)
		if err := r.CheckValid(t.Context()); err != test.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTarget(t *testing.T) {
	own, err := target.StatNamespace("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	r := requestTo(&fakeBroker{valid: true})
	r.Container.UserNamespace = own
	defer r.close()
	first, err := r.Target(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if second, err := r.Target(t.Context()); second != first || err != nil {
		t.Errorf("the second time: %p, %v", second, err)
	}
	credentials, err := first.Credentials()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []target.Capability{unix.CAP_CHOWN, unix.CAP_SYS_RESOURCE} {
		if got, err := r.Privileged(t.Context(), c); got != credentials.Effective.Has(c) || err != nil {
			t.Errorf("capability %d: %v, %v", c, got, err)
		}
	}
	r.Container = &Container{}
	if got, err := r.Privileged(t.Context(), unix.CAP_CHOWN); got || err != nil {
		t.Errorf("in another user namespace: %v, %v", got, err)
	}
}

// TestTargetGone captures of a caller that no longer waits.
func TestTargetGone(t *testing.T) {
	r := requestTo(&fakeBroker{})
	defer r.close()
	caller, err := r.Target(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, privileged := r.Privileged(t.Context(), unix.CAP_CHOWN)
	for name, err := range map[string]error{
		"CheckValid": r.CheckValid(t.Context()), "Alive": caller.Alive(), "Privileged": privileged,
		"Do": gone(caller.Do(0, func() error { return errors.New("it acted") })),
	} {
		if !errors.Is(err, ErrGone) {
			t.Errorf("%s of a thread that does not wait: %v", name, err)
		}
	}
}

// TestTargetKeeps has what was captured while the caller waited, also when it is gone.
func TestTargetKeeps(t *testing.T) {
	broker := &fakeBroker{valid: true}
	r := requestTo(broker)
	defer r.close()
	caller, _ := r.Target(t.Context())
	before, err := caller.Credentials()
	if err != nil {
		t.Fatal(err)
	}
	broker.valid = false
	if after, err := caller.Credentials(); err != nil || after != before {
		t.Errorf("got %v, %v", after, err)
	}
}
