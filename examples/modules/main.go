// Intercede-plugin-modules loads kernel modules of a list for containers; see README.md.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

func main() { sdk.Serve(plugin) }

type config struct {
	Allowed []string `json:"allowed" help:"SHA-256 sums of the files that may be loaded" pattern:"[0-9a-f]{64}" example:"0f343b0931126a20f133d67c2b018a3b0f343b0931126a20f133d67c2b018a3b"`
}

const (
	// maxFile is the largest file that is looked at, in bytes.
	maxFile = 64 << 20
	// copyTime is how long a filesystem, which may be the container's own, has to give the file: well below a call's
	// deadline.
	copyTime = 5 * time.Second

	flagCompressed = 4 // MODULE_INIT_COMPRESSED_FILE, include/uapi/linux/module.h
)

var plugin = sdk.Func(sdk.Manifest{
	Name: "modules", Version: "1.0.0", Description: "loads kernel modules of a list for containers",
	Syscalls: []sdk.Syscall{{
		Name: "finit_module", If: []string{"allowed"}, Reads: []sdk.Read{sdk.ReadString(1, unix.PathMax)},
		Captures:  []sdk.Capture{sdk.CaptureCredentials, sdk.CaptureDescriptor(0)},
		Arguments: []sdk.Argument{{Name: "fd", Format: sdk.FD}, {Name: "params"}, {Name: "flags"}},
	}},
	// CopyFile needs all but the first of both.
	Capabilities: []string{"CAP_SYS_MODULE", "CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID"},
	Uses:         sdk.Uses{Syscalls: []string{"finit_module", "setns"}},
	OnFailure:    sdk.FailErrno(unix.EPERM),
}, config{}, handle)

func handle(ctx context.Context, req *sdk.Request, c *config) (sdk.Response, error) {
	if may, err := req.Privileged(ctx, target.Capability(unix.CAP_SYS_MODULE)); !may || err != nil {
		return sdk.Next(), err // the kernel refuses the call
	}
	flags := int(req.Int32(2))
	if flags&^flagCompressed != 0 {
		return sdk.Next(), nil // flags with which the kernel checks less, or that it does not know
	}
	params, fault := req.String(1)
	if fault != 0 {
		return sdk.Errno(fault), nil
	}
	file, err := copyOf(ctx, req)
	if err != nil {
		return errnoOf(err)
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return sdk.Response{}, err
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	log := req.Log().With("sha256", sum)
	switch {
	case !slices.Contains(c.Allowed, sum):
		log.Warn("a module that is not allowed")
		return sdk.Errno(unix.EPERM), nil
	case params != "":
		log.Warn("parameters for a module, which nobody has checked", "params", params)
		return sdk.Errno(unix.EPERM), nil
	}
	if err := unix.FinitModule(int(file.Fd()), "", flags); err != nil {
		return errnoOf(err)
	}
	log.Info("module loaded")
	return sdk.Return(0), nil
}

// copyOf copies the caller's file: what is hashed is what is loaded, whatever becomes of the file meanwhile.
func copyOf(ctx context.Context, req *sdk.Request) (*os.File, error) {
	caller, err := req.Target(ctx)
	if err != nil {
		return nil, err
	}
	descriptor, err := caller.OpenDescriptor(req.FD(0))
	if err != nil {
		return nil, err
	}
	defer descriptor.File.Close()
	if descriptor.Flags&unix.O_PATH != 0 || descriptor.Flags&unix.O_ACCMODE == unix.O_WRONLY {
		return nil, unix.EBADF // as the kernel says of a descriptor that is not for reading
	}
	ctx, cancel := context.WithTimeoutCause(ctx, copyTime, unix.ETIMEDOUT)
	defer cancel()
	file, err := caller.CopyFile(ctx, int(descriptor.File.Fd()), maxFile)
	if errors.Is(err, context.DeadlineExceeded) {
		err = context.Cause(ctx)
	}
	return file, err
}

// errnoOf gives the caller the kernel's errno, if that is what failed.
func errnoOf(err error) (sdk.Response, error) {
	if errno := unix.Errno(0); errors.As(err, &errno) {
		return sdk.Errno(errno), nil
	}
	return sdk.Response{}, err
}
