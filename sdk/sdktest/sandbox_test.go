package sdktest_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// confined is a plugin that enters its callers' place, and declares one of the capabilities that this needs. Its calls
// say what it finds out about its own process.
type confined struct{}

func (confined) Manifest() sdk.Manifest {
	return sdk.Manifest{
		Name: "confined", Version: "1", Capabilities: []string{"CAP_SYS_CHROOT"},
		Syscalls: []sdk.Syscall{{Name: "getppid"}}, OnFailure: sdk.FailErrno(unix.EIO),
	}
}

func (confined) Attach(context.Context, sdk.Container, sdk.Settings) (sdk.Session, error) {
	return confined{}, nil
}

const (
	askUser = iota
	askCapabilities
	askFilter
	enter
)

func (confined) Handle(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	switch req.Args[0] {
	case askUser:
		return sdk.Return(int64(os.Getuid())), nil
	case askCapabilities:
		var data [2]unix.CapUserData
		err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
		return sdk.Return(int64(data[0].Permitted) | int64(data[1].Permitted)<<32), err
	case askFilter:
		_, err := unix.KeyctlInt(unix.KEYCTL_GET_KEYRING_ID, unix.KEY_SPEC_THREAD_KEYRING, 0, 0, 0)
		if err == nil {
			return sdk.Return(0), nil
		}
		return sdk.Errno(err.(unix.Errno)), nil
	}
	caller, err := req.Target(ctx)
	if err != nil {
		return sdk.Response{}, err
	}
	return sdk.Return(0), caller.Do(0, func() error { return nil })
}

// TestSandbox has a registered handler run with what its manifest declares, and nothing else.
func TestSandbox(t *testing.T) {
	c := sdktest.NewContainer(t, confined{})
	lines := c.Call(t, "sys getppid 0", "sys getppid 1", "sys getppid 2").Lines(t)
	if lines[0].Ret < 2_000_000_000 {
		t.Errorf("the plugin runs as user %d", lines[0].Ret)
	}
	if lines[1].Ret != 1<<unix.CAP_SYS_CHROOT {
		t.Errorf("its capabilities are %#x, want CAP_SYS_CHROOT alone", lines[1].Ret)
	}
	if lines[2].Errno != unix.EPERM {
		t.Errorf("keyctl(2), which its seccomp filter denies, gives %v", lines[2].Errno)
	}
}

// TestMissingCapability is a plugin that would be dead in production. The thread that failed is not used again, and the
// next call is served.
func TestMissingCapability(t *testing.T) {
	r := sdktest.NewContainer(t, confined{}).Call(t, "sys getppid 3", "sys getppid 0")
	if errno := r.Lines(t)[0].Errno; errno != unix.EIO {
		t.Errorf("the caller gets %v, want the verdict", errno)
	}
	if r.Kinds() != "failure value" || !strings.Contains(r.Calls[0].Outcome.String(), "not permitted") &&
		!strings.Contains(r.Calls[0].Outcome.String(), "permission") {
		t.Errorf("got %v", r.Calls)
	}
}
