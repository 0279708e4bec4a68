package sdk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk/internal/acting"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// ErrGone means that nobody waits for the answer any more: the caller was killed, or a signal interrupted its call,
// which it has not made again. A Handle that returns it has not failed.
var ErrGone = errors.New("the caller no longer waits for an answer")

// Request is one notification. It is valid until Handle returns.
type Request struct {
	ID        uint64 // notification ID, unique to the listener
	Syscall   string // "mknodat"
	Arch      Arch
	Args      [6]uint64 // registers as they are; the accessors truncate as the kernel does
	TID       int       // the calling thread, in the broker's pid namespace
	Container *Container
	// Again says that an earlier process of the plugin had this call and died. It is false for RepeatNever.
	Again bool
	// Received is when the broker had the call, for RepeatCheck alone: what the plugin has done for it has no earlier
	// ctime. It is on the clock that the kernel stamps inodes with (CLOCK_REALTIME_COARSE): what was done less than a
	// tick before, 10 ms at most, may have the same time.
	Received time.Time

	repeat Repeat
	reads  []snapshot
	broker *source
	target *target.Target
}

// snapshot is what a declared read gave.
type snapshot struct {
	arg   int
	data  []byte
	fault syscall.Errno
}

// Arch is the caller's architecture, an AUDIT_ARCH_* value (audit.h).
type Arch uint32

const (
	ArchX86_64  Arch = unix.AUDIT_ARCH_X86_64 // x32 callers too
	ArchI386    Arch = unix.AUDIT_ARCH_I386
	ArchAArch64 Arch = unix.AUDIT_ARCH_AARCH64
	ArchARM     Arch = unix.AUDIT_ARCH_ARM
)

// Is32Bit reports whether the caller's long and pointers have 32 bits (__AUDIT_ARCH_64BIT not set, audit.h).
func (a Arch) Is32Bit() bool { return a&0x80000000 == 0 }

// Int32 is argument i as an int.
func (r *Request) Int32(i int) int32 { return int32(r.Args[i]) }

// Uint32 is argument i as an unsigned int.
func (r *Request) Uint32(i int) uint32 { return uint32(r.Args[i]) }

// Mode is argument i as a umode_t: 16 bits, S_IFMT included.
func (r *Request) Mode(i int) uint32 { return uint32(uint16(r.Args[i])) }

// Dev is argument i as the 32-bit device number of mknod(2), decoded (new_decode_dev, include/linux/kdev_t.h).
func (r *Request) Dev(i int) (major, minor uint32) {
	dev := uint64(uint32(r.Args[i]))
	return unix.Major(dev), unix.Minor(dev)
}

// FD is argument i as a descriptor of the caller.
func (r *Request) FD(i int) int { return int(int32(r.Args[i])) }

// Pointer is argument i as an address in the caller.
func (r *Request) Pointer(i int) uint64 {
	if r.Arch.Is32Bit() {
		return uint64(uint32(r.Args[i]))
	}
	return r.Args[i]
}

// String is the declared string that argument i points to, without its NUL. The fault is 0, or what the kernel would
// say: EFAULT, ENAMETOOLONG. It panics, and the plugin fails, if the manifest declares no read of the argument.
func (r *Request) String(i int) (string, syscall.Errno) {
	data, fault := r.Bytes(i)
	return string(data), fault
}

// Path is like String, and an empty path is ENOENT (path_resolution(7)).
func (r *Request) Path(i int) (string, syscall.Errno) {
	path, fault := r.String(i)
	if fault == 0 && path == "" {
		return "", syscall.ENOENT
	}
	return path, fault
}

// Bytes is the declared memory that argument i points to. The fault is 0, EFAULT, or E2BIG for a length above the
// declared most. It panics, and the plugin fails, if the manifest declares no read of the argument.
func (r *Request) Bytes(i int) ([]byte, syscall.Errno) {
	for _, read := range r.reads {
		if read.arg == i {
			return read.data, read.fault
		}
	}
	panic(fmt.Sprintf("%s: the manifest declares no read of argument %d", r.Syscall, i))
}

// MaxRead is the most that one read of a caller's memory gives, in bytes.
const MaxRead = wire.MaxRead

// Read copies n bytes, at most MaxRead, of the caller's memory: what a pointer inside a declared struct points to.
// The caller can change its memory at any time: read once, and decide on the copy. The fault is 0 or EFAULT; the error
// is ErrGone or a broken connection.
func (r *Request) Read(ctx context.Context, address uint64, n int) ([]byte, syscall.Errno, error) {
	return r.ask(ctx, address, n, false)
}

// ReadString is like Read for a string of at most max bytes, its NUL included; longer is ENAMETOOLONG.
func (r *Request) ReadString(ctx context.Context, address uint64, max int) (string, syscall.Errno, error) {
	data, fault, err := r.ask(ctx, address, max, true)
	return string(data), fault, err
}

func (r *Request) ask(ctx context.Context, address uint64, n int, asString bool) ([]byte, syscall.Errno, error) {
	if n < 0 || n > wire.MaxRead {
		return nil, 0, fmt.Errorf("read of %d bytes: the limit is %d", n, wire.MaxRead)
	}
	if ctx.Err() != nil {
		return nil, 0, context.Cause(ctx)
	}
	memory, err := r.broker.readMemory(&wire.ReadMemory{Address: address, Length: uint32(n), String_: asString})
	if err != nil {
		return nil, 0, err
	}
	fault := syscall.Errno(memory.GetErrno())
	if fault == syscall.ESRCH {
		return nil, 0, ErrGone
	}
	return memory.GetData(), fault, nil
}

// CheckValid returns ErrGone if the caller neither waits (SECCOMP_IOCTL_NOTIF_ID_VALID), nor may make a call again that
// a signal has interrupted. All that a Request and its
// Target say was the caller's already, whatever becomes of it: so this only saves work that nobody waits for.
func (r *Request) CheckValid(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return r.broker.Alive()
}

// Target is the calling thread: its credentials, namespaces and descriptors, as they were when it made the call. The
// SDK closes it when Handle returns. The error is ctx's.
func (r *Request) Target(ctx context.Context) (*target.Target, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return r.target, nil
}

// Privileged reports whether the caller has the capability effective in the container's own user namespace. A caller in
// a user namespace nested deeper has none there, whatever it has in its own.
//
// It rests on the credentials: declare CaptureCredentials, or it costs a question to the broker. The plugin needs no
// capability for it. The error is ctx's, or wraps ErrGone: return it from Handle.
func (r *Request) Privileged(ctx context.Context, capability target.Capability) (bool, error) {
	t, err := r.Target(ctx)
	if err != nil {
		return false, err
	}
	credentials, err := t.Credentials()
	if err != nil {
		return false, gone(err)
	}
	return credentials.Effective.Has(capability) && credentials.UserNamespace == r.Container.UserNamespace, nil
}

// Lacks says, as the text of a reason, what a caller lacks that is not Privileged.
func (r *Request) Lacks(capability target.Capability) string {
	credentials, err := r.target.Credentials()
	if err == nil && credentials.UserNamespace != r.Container.UserNamespace {
		return "the caller is in a user namespace of its own within the container, where it has no power over the container's"
	}
	return fmt.Sprintf("the caller has no %v effective", target.CapabilitySet(capability))
}

// gone makes the error of a target whose thread has died wrap ErrGone too.
func gone(err error) error {
	if errors.Is(err, os.ErrProcessDone) && !errors.Is(err, ErrGone) {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return err
}

// close closes what was captured. A caller that is answered after it can unmount what that was on.
func (r *Request) close() {
	r.target.Close()
	acting.AwaitCopies()
}
