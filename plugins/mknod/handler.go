package mknod

import (
	"context"
	"fmt"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// handler answers mknod(2) and mknodat(2).
type handler struct{}

var (
	_ sdk.Handler = handler{}
	_ sdk.Session = (*session)(nil)
	_ sdk.Checker = (*session)(nil)
)

func (handler) Manifest() sdk.Manifest {
	return sdk.Manifest{
		Name:        "mknod",
		Version:     "0.1.0",
		Description: "makes approved device nodes",
		Syscalls: []sdk.Syscall{{
			Name:      "mknod",
			When:      deviceNodes(1),
			Arguments: []sdk.Argument{{Name: "path"}, {Name: "mode", Format: sdk.Mode}, {Name: "dev", Format: sdk.Dev}},
			Reads:     []sdk.Read{sdk.ReadPath(0)},
			Captures:  []sdk.Capture{sdk.CaptureCredentials, sdk.CapturePlace},
			Repeat:    sdk.RepeatCheck,
		}, {
			Name:      "mknodat",
			When:      deviceNodes(2),
			Arguments: []sdk.Argument{{Name: "dirfd", Format: sdk.FD}, {Name: "path"}, {Name: "mode", Format: sdk.Mode}, {Name: "dev", Format: sdk.Dev}},
			Reads:     []sdk.Read{sdk.ReadPath(1)},
			Captures:  []sdk.Capture{sdk.CaptureCredentials, sdk.CapturePlace, sdk.CaptureDescriptor(0)},
			Repeat:    sdk.RepeatCheck,
		}},
		Capabilities: []string{
			"CAP_MKNOD",
			"CAP_SYS_ADMIN", "CAP_SYS_CHROOT", // to enter the caller's namespaces
			"CAP_SETUID", "CAP_SETGID", // to have the caller's filesystem ids
			"CAP_DAC_READ_SEARCH",            // to stand in the caller's root and working directory
			"CAP_DAC_OVERRIDE", "CAP_FSETID", // lent to callers that have it, in directories where theirs counts
		},
		Uses: sdk.Uses{
			Syscalls: []string{
				"setns",                                    // the user namespace of a caller that reaches a folder by its power
				"mount_setattr", "move_mount", "open_tree", // to cover nodes; it makes no superblock
			},
			Devices: []string{"c *:* m", "b *:* m"},
		},
		Settings: settings,
		// The kernel asks for CAP_MKNOD in the initial user namespace, and refuses.
		OnFailure:          sdk.FailContinue(),
		Reasons:            reasons,
		CallerCapabilities: []string{"CAP_MKNOD"},
	}
}

// deviceNodes is the condition that the mode in argument arg is a device node's.
func deviceNodes(arg int) []sdk.Match {
	return []sdk.Match{
		{{Arg: arg, Mask: unix.S_IFMT, Value: unix.S_IFCHR}},
		{{Arg: arg, Mask: unix.S_IFMT, Value: unix.S_IFBLK}},
	}
}

func (handler) Attach(_ context.Context, container sdk.Container, s sdk.Settings) (sdk.Session, error) {
	var c config
	if err := s.Decode(&c); err != nil {
		return nil, err
	}
	p, err := c.policy(container.DevicesDenied)
	if err != nil {
		return nil, fmt.Errorf("devices: %w", err)
	}
	return &session{p, newCovers(c.MaxCovers, container.Kept)}, nil
}

// session is a container's use of the plugin.
type session struct {
	policy policy
	covers *covers
}

// Handle implements sdk.Session.
//
// What is not for this plugin is Next. If no other takes it the kernel does the whole call with the caller's own
// privileges, and asks for CAP_MKNOD in the initial user namespace (vfs_mknod, fs/namei.c), which no caller has:
// whatever the caller changed in its memory meanwhile, it gets EPERM, or the whiteout that everybody may make.
func (s *session) Handle(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	n := decode(req)
	if code := s.policy.refuses(n.device); code != "" {
		return sdk.Next().Because(code, n.device.String()), nil
	}
	path, fault := req.Path(n.pathArg)
	if fault != 0 {
		return sdk.Errno(fault).Because(badPath, ""), nil
	}
	n.path = path
	privileged, err := req.Privileged(ctx, unix.CAP_MKNOD)
	if err != nil {
		return sdk.Response{}, err
	}
	if !privileged {
		return sdk.Next().Because(noCapability, req.Lacks(unix.CAP_MKNOD)), nil
	}
	outcome, err := s.make(ctx, req, n)
	if err != nil {
		return sdk.Response{}, err
	}
	return outcome.response(), nil
}

// node is what the caller wants made.
type node struct {
	dirFD   int // of the caller
	pathArg int
	path    string
	mode    uint32 // S_IFMT included
	dev     int    // as in the register, 32 bits
	device  device
}

// decode reads mknod(path, mode, dev) or mknodat(dirfd, path, mode, dev).
func decode(req *sdk.Request) node {
	n := node{dirFD: unix.AT_FDCWD}
	if req.Syscall == "mknodat" {
		n.dirFD, n.pathArg = req.FD(0), 1
	}
	n.mode = req.Mode(n.pathArg + 1)
	n.dev = int(req.Uint32(n.pathArg + 2))
	n.device.kind = n.mode & unix.S_IFMT
	n.device.major, n.device.minor = req.Dev(n.pathArg + 2)
	return n
}
