package setxattr

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// handler answers setxattr(2), getxattr(2), removexattr(2) and their kin.
type handler struct{}

var (
	_ sdk.Handler = handler{}
	_ sdk.Session = session{}
	_ sdk.Checker = session{}
)

func (handler) Manifest() sdk.Manifest {
	m := sdk.Manifest{
		Name:        "setxattr",
		Version:     "0.1.0",
		Description: "sets approved trusted.* and security.* attributes",
		Capabilities: []string{
			"CAP_SYS_ADMIN", // which the kernel asks for, and to enter the caller's namespaces
			"CAP_SYS_CHROOT",
			"CAP_SETUID", "CAP_SETGID", // to have the caller's filesystem ids
			"CAP_DAC_READ_SEARCH", // to stand in the caller's root and working directory
		},
		Uses:     sdk.Uses{Syscalls: []string{"setns"}}, // the user namespace of a caller that reaches a file by its power
		Settings: settings,
		// The kernel asks for CAP_SYS_ADMIN in the initial user namespace, and refuses.
		OnFailure:          sdk.FailContinue(),
		Reasons:            reasons,
		CallerCapabilities: []string{"CAP_SYS_ADMIN"},
	}
	for _, f := range forms {
		m.Syscalls = append(m.Syscalls, f.manifest())
	}
	return m
}

func (handler) Attach(_ context.Context, _ sdk.Container, s sdk.Settings) (sdk.Session, error) {
	var c config
	if err := s.Decode(&c); err != nil {
		return nil, err
	}
	p, err := c.policy()
	if err != nil {
		return nil, fmt.Errorf("attributes: %w", err)
	}
	descriptors, err := openDescriptors()
	if err != nil {
		return nil, err
	}
	return session{p, descriptors, &atomic.Int64{}}, nil
}

// session is a container's use of the plugin.
type session struct {
	policy      policy
	descriptors int           // this process's /proc/self/fd
	inMemory    *atomic.Int64 // see job.affords
}

// Handle implements sdk.Session.
//
// What is not for this plugin is Next. After Next, if no other plugin takes the call, and after Continue, the kernel
// does the whole call with the caller's own privileges, and asks for CAP_SYS_ADMIN in the initial user namespace for
// trusted.* (xattr_permission, fs/xattr.c), and in that of the filesystem for security.* (cap_inode_setxattr,
// security/commoncap.c), which no caller has. For an attribute of another kind that the caller puts into its memory
// meanwhile, it asks what it always asks. So errors that come before that question (EINVAL, ERANGE, E2BIG, EFAULT,
// EBADF, those of the path, EROFS) are left to the kernel too.
func (s session) Handle(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	c, notMine, err := s.policy.decode(ctx, req)
	if err != nil || notMine.code != "" {
		return notMine.next(), err
	}
	privileged, err := req.Privileged(ctx, unix.CAP_SYS_ADMIN)
	if err != nil {
		return sdk.Response{}, err
	}
	if !privileged {
		return sdk.Next().Because(noCapability, req.Lacks(unix.CAP_SYS_ADMIN)), nil
	}
	return s.perform(ctx, req, c)
}

// Check implements sdk.Checker. An attribute that is there already makes a difference to XATTR_CREATE alone, and one
// that is not there to removing: see job.done.
func (s session) Check(ctx context.Context, req *sdk.Request) (sdk.Response, bool, error) {
	c, notMine, err := s.policy.decode(ctx, req)
	if err != nil || notMine.code != "" || c.operation == get || c.operation == list || c.operation == set && c.flags&unix.XATTR_CREATE == 0 {
		return sdk.Response{}, false, err
	}
	privileged, err := req.Privileged(ctx, unix.CAP_SYS_ADMIN)
	if err != nil || !privileged {
		return sdk.Response{}, false, err
	}
	done := false
	c.done = &done
	_, err = s.perform(ctx, req, c)
	return sdk.Return(0), done, err
}
