package mount

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// handler answers mount(2), and the calls of the newer interface that make and change superblocks.
type handler struct{}

var (
	_ sdk.Handler = handler{}
	_ sdk.Session = (*session)(nil)
	_ sdk.Checker = (*session)(nil)
)

func (handler) Manifest() sdk.Manifest {
	captures := []sdk.Capture{sdk.CaptureCredentials, sdk.CapturePlace}
	return sdk.Manifest{
		Name:        "mount",
		Version:     "0.1.0",
		Description: "mounts approved filesystems",
		Syscalls: []sdk.Syscall{{
			Name: "mount",
			If:   []string{"allowed", "fuse"},
			When: []sdk.Match{
				{{Arg: 3, Mask: msOther | msPropagation, Value: 0}},                      // a new superblock
				{{Arg: 3, Mask: unix.MS_MGC_MSK | msOther, Value: unix.MS_MGC_VAL}},      // the same, by old programs
				{{Arg: 3, Mask: unix.MS_REMOUNT | unix.MS_BIND, Value: unix.MS_REMOUNT}}, // a superblock is to change
			},
			Arguments: []sdk.Argument{{Name: "source"}, {Name: "target"}, {Name: "type"}, {Name: "flags"}, {Name: "data"}},
			Reads:     []sdk.Read{sdk.ReadPath(0), sdk.ReadPath(1), sdk.ReadPath(2), sdk.ReadString(4, maxData)},
			// What is asked for late, a caller of LXC's that a signal has taken out of its call has no answer to.
			Captures: append(captures, sdk.CaptureMountinfo),
			Repeat:   sdk.RepeatCheck,
		}, {
			Name:      "fsopen",
			If:        []string{"allowed", "fuse"},
			Arguments: []sdk.Argument{{Name: "fsname"}, {Name: "flags"}},
			Reads:     []sdk.Read{sdk.ReadPath(0)},
			Captures:  captures,
			Repeat:    sdk.RepeatSafe, // the context ended with the process
		}, {
			Name:      "fspick",
			If:        []string{"allowed"},
			Arguments: []sdk.Argument{{Name: "dirfd", Format: sdk.FD}, {Name: "path"}, {Name: "flags"}},
			Reads:     []sdk.Read{sdk.ReadPath(1)},
			Captures:  captures,
			Repeat:    sdk.RepeatSafe, // the same
		}, {
			Name:      "fsconfig",
			If:        []string{"allowed"},
			Arguments: []sdk.Argument{{Name: "fd", Format: sdk.FD}, {Name: "cmd", Format: sdk.Decimal}, {Name: "key"}, {Name: "value"}, {Name: "aux", Format: sdk.Decimal}},
			Reads:     []sdk.Read{sdk.ReadString(2, maxParameter), sdk.ReadString(3, maxParameter)},
			Captures:  captures,
		}, {
			Name:      "fsmount",
			If:        []string{"allowed"},
			Arguments: []sdk.Argument{{Name: "fd", Format: sdk.FD}, {Name: "flags"}, {Name: "attributes"}},
			Captures:  captures,
		}, {
			Name:      "move_mount",
			If:        []string{"allowed"},
			When:      []sdk.Match{{{Arg: 4, Mask: unix.MOVE_MOUNT_F_EMPTY_PATH, Value: unix.MOVE_MOUNT_F_EMPTY_PATH}}},
			Arguments: []sdk.Argument{{Name: "from_dirfd", Format: sdk.FD}, {Name: "from"}, {Name: "to_dirfd", Format: sdk.FD}, {Name: "to"}, {Name: "flags"}},
			Reads:     []sdk.Read{sdk.ReadPath(1), sdk.ReadPath(3)},
			Captures:  captures,
			Repeat:    sdk.RepeatCheck,
		}, {
			Name:      "umount2",
			If:        []string{"allowed"},
			When:      []sdk.Match{{{Arg: 1, Mask: unix.MNT_FORCE, Value: unix.MNT_FORCE}}},
			Arguments: []sdk.Argument{{Name: "target"}, {Name: "flags"}},
			Reads:     []sdk.Read{sdk.ReadPath(0)},
			Captures:  captures,
		}, {
			Name:      "ioctl",
			If:        []string{"loop"},
			When:      []sdk.Match{{{Arg: 1, Mask: math.MaxUint32, Value: unix.LOOP_CTL_GET_FREE}}},
			Arguments: []sdk.Argument{{Name: "fd", Format: sdk.FD}, {Name: "op"}},
			Captures:  append(captures, sdk.CaptureDescriptor(0), sdk.CaptureMountinfo),
			Repeat:    sdk.RepeatSafe, // the device that was found is free until the caller takes it
		}},
		Capabilities: []string{
			"CAP_SYS_ADMIN",            // to mount, and to enter the caller's namespaces
			"CAP_SYS_CHROOT",           // to enter them too
			"CAP_SETUID", "CAP_SETGID", // to have the caller's ids
			"CAP_DAC_READ_SEARCH", // to stand in the caller's root and working directory
			"CAP_MKNOD",           // to name a device for the kernel where nobody can replace it
		},
		Uses: sdk.Uses{
			Syscalls: []string{
				"fsopen", "fsconfig", "fsmount", "fspick", "mount", "move_mount", "mount_setattr", "open_tree", "pivot_root", "umount2",
				"setns", "setresuid", "setresgid", "execve", // to start FUSE handlers
				// Of FUSE handlers, which have this filter too. Their user 0 is the container's root.
				"clone", "clone3", "unshare", "socket", "setfsuid", "setfsgid", "setuid", "setgid", "setreuid", "setregid",
				"ioctl", // of block devices, and of FUSE handlers
			},
			Host:     []string{"/proc/filesystems"},
			Devices:  []string{"b *:* m", "b 7:* r"}, // to make sources and loop devices, and to clear loop devices
			HostPIDs: true,                           // a FUSE handler is started in the caller's pid namespace
		},
		Settings: settings,
		// The kernel asks for CAP_SYS_ADMIN in the initial user namespace, and refuses.
		OnFailure:          sdk.FailContinue(),
		Reasons:            reasons,
		CallerCapabilities: []string{"CAP_SYS_ADMIN"},
	}
}

func (handler) Attach(_ context.Context, container sdk.Container, s sdk.Settings) (sdk.Session, error) {
	var c config
	if err := s.Decode(&c); err != nil {
		return nil, err
	}
	here, err := readFilesystems()
	if err != nil {
		return nil, err
	}
	p, err := c.policy(knownFilesystems(), here)
	if err != nil {
		return nil, err
	}
	if p.deviceNodes = !c.Nodev && container.DevicesDenied; !c.Nodev && !p.deviceNodes {
		container.Log().Warn("mounts have nodev all the same: the container has no device cgroup of version 2 that is known to " +
			"deny what no rule names (one of version 1 does not count, since a container can leave it)")
	}
	for _, name := range p.withoutDriver {
		container.Log().Warn(fmt.Sprintf("%q is in allowed, and not mounted: with shift the driver of ext4 would do it, and fuse has a "+
			"handler for ext4", name))
	}
	return &session{
		policy: p, container: container, left: parseKept(container.Kept), intents: newIntents(container.Kept), loops: newLoops(p, container),
	}, nil
}

// session is a container's use of the plugin.
type session struct {
	policy    *policy
	container sdk.Container

	mu       sync.Mutex
	handlers int // FUSE handlers that are waited for

	intents  *intents
	left     map[uint64]keptSuperblock // what earlier processes made, by st_dev; it is not changed
	mounted  superblocks
	contexts contexts
	loops    *loops
	nodes    loopNodes
}

// Close implements sdk.Session.
func (s *session) Close() error {
	s.contexts.forgetAll()
	s.nodes.close()
	return s.loops.close(s.container.UserNamespace)
}

// warn logs a warning about the container. What a container chose is to be quoted (%q).
func (s *session) warn(format string, args ...any) {
	s.container.Log().Warn(fmt.Sprintf(format, args...))
}

// Handle implements sdk.Session.
//
// What is not for this plugin is Next. If no other takes it the kernel does the whole call with the caller's own
// privileges, and asks for CAP_SYS_ADMIN in the initial user namespace, which no caller has, for all but the
// filesystems that everybody may mount in a user namespace (mount_capable, fs/super.c), and in the superblock's user
// namespace for a remount (do_remount, fs/namespace.c). So it does for the newer calls: of fsopen, in fsconfig that
// creates (mount_capable); of fspick, in fsconfig that changes (vfs_cmd_reconfigure, fs/fsopen.c). fsmount and
// move_mount need no more than the caller has over its own mount namespace (may_mount), and the contexts that this
// plugin gives a caller are good for nothing there.
func (s *session) Handle(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	response, err := s.answer(ctx, req)
	var refused refusal
	var back handBack
	switch {
	case errors.As(err, &refused):
		return refused.response(), nil
	case errors.As(err, &back):
		return sdk.Next().Because(back.code, back.text), nil
	}
	return response, err
}

func (s *session) answer(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	switch req.Syscall {
	case "fsopen":
		return s.fsopen(ctx, req)
	case "fspick":
		return s.fspick(ctx, req)
	case "fsconfig":
		return s.fsconfig(ctx, req)
	case "fsmount":
		return s.fsmount(ctx, req)
	case "move_mount":
		return s.moveMount(ctx, req)
	case "umount2":
		return s.umount(ctx, req)
	case "ioctl":
		return s.ioctl(ctx, req)
	}
	flags := decodeFlags(req.Args[3])
	switch {
	case flags.isInvalid():
		return next(badArguments, "flags") // the kernel says EINVAL, or what comes before that
	case flags.isRemount():
		return s.remount(ctx, req, flags)
	default:
		return s.mount(ctx, req, flags)
	}
}

// mounter is the caller, which may mount: it hands the call back of one without the privilege that the kernel asks of
// root, or outside a mount namespace of the container's own (may_mount, fs/namespace.c). In one that belongs to a user
// namespace nested deeper nothing is mounted.
func (s *session) mounter(ctx context.Context, req *sdk.Request) (*target.Target, error) {
	privileged, err := req.Privileged(ctx, unix.CAP_SYS_ADMIN)
	if err != nil {
		return nil, err
	}
	if !privileged {
		return nil, handBack{noCapability, req.Lacks(unix.CAP_SYS_ADMIN)}
	}
	caller, err := req.Target(ctx)
	if err != nil {
		return nil, err
	}
	owner, err := caller.MountNamespaceOwner()
	if err != nil {
		return nil, fmt.Errorf("the caller's mount namespace: %w", err)
	}
	if owner != s.container.UserNamespace {
		return nil, handBack{foreignNamespace, ""}
	}
	return caller, nil
}
