package bpf

import (
	"context"
	"errors"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// handler answers bpf(2).
type handler struct{}

var (
	_ sdk.Handler = handler{}
	_ sdk.Session = (*session)(nil)
	_ sdk.Checker = (*session)(nil)
)

func (handler) Manifest() sdk.Manifest {
	return sdk.Manifest{
		Name:        "bpf",
		Version:     "0.1.0",
		Description: "loads device programs and attaches them to the container's cgroups",
		Syscalls: []sdk.Syscall{{
			Name:      "bpf",
			If:        []string{"devices"},
			When:      commands(cmdLoad, cmdAttach, cmdDetach, cmdQuery, cmdGetByID, cmdLink),
			Arguments: []sdk.Argument{{Name: "cmd", Format: sdk.Decimal}, {Name: "attr"}, {Name: "size", Format: sdk.Decimal}},
			Reads:     []sdk.Read{sdk.ReadBytes(1, 2, maxAttr)},
			Captures:  []sdk.Capture{sdk.CaptureCredentials},
			Repeat:    sdk.RepeatCheck,
		}},
		Capabilities: []string{
			"CAP_BPF", "CAP_NET_ADMIN", // to load, attach, detach and query
			"CAP_SYS_ADMIN", // to have programs by their ids, and know which are no more (BPF_PROG_GET_FD_BY_ID)
		},
		Uses:     sdk.Uses{Syscalls: []string{"bpf"}, Host: []string{"/sys/fs/cgroup"}},
		Settings: settings,
		// Not continue: the kernel lets everybody attach a program that they have a descriptor of.
		OnFailure:          sdk.FailErrno(unix.EPERM),
		NeverContinue:      true,
		Reasons:            reasons,
		CallerCapabilities: []string{"CAP_SYS_ADMIN"},
	}
}

// commandMask has the bits of a command's number: those above are for flags.
const commandMask = 0xffff

func commands(numbers ...uint64) []sdk.Match {
	var matches []sdk.Match
	for _, n := range numbers {
		matches = append(matches, sdk.Match{{Arg: 0, Mask: commandMask, Value: n}})
	}
	return matches
}

func (handler) Attach(_ context.Context, container sdk.Container, given sdk.Settings) (sdk.Session, error) {
	var c config
	if err := given.Decode(&c); err != nil {
		return nil, err
	}
	s := &session{
		config: c, programs: newPrograms(c.MaxPrograms, container.Kept), loading: make(chan struct{}, 1),
		attaching: make(chan struct{}, 1), changed: changed(container.Kept),
	}
	if !c.Devices {
		return s, nil // it gets no calls
	}
	own, err := openCgroup(container)
	// Without its cgroup the container has ended.
	if err != nil && !errors.Is(err, unix.ENOENT) {
		container.Log().Warn("the container can attach no device programs", "error", err)
	}
	s.own = own
	return s, nil
}

// session is a container's use of the plugin.
type session struct {
	config    config
	own       *cgroup // nil: the container has none
	programs  *programs
	loading   chan struct{} // holds one while a program is loaded
	attaching chan struct{} // holds one while a program is attached or detached
	changed   uint64        // the call that an earlier process was about to do so for; 0: none
}

func (s *session) Close() error {
	if s.own != nil {
		s.own.close()
	}
	return nil
}

// asksForCapabilities are the commands for which the kernel does.
var asksForCapabilities = map[uint32]bool{cmdLoad: true, cmdQuery: true, cmdGetByID: true}

// Handle implements sdk.Session.
//
// Next, after which the kernel may get the call, and Continue are sent for three commands alone. They are safe there
// since the kernel reads the whole attr again, and asks for the caller's own capabilities (kernel/bpf/syscall.c). For
// BPF_PROG_LOAD, CAP_BPF or a BPF token (bpf_prog_load), but for the types socket filter and cgroup_skb, which it
// lets everybody load where kernel.unprivileged_bpf_disabled is 0; for BPF_PROG_QUERY, CAP_NET_ADMIN
// (bpf_prog_query); for BPF_PROG_GET_FD_BY_ID, CAP_SYS_ADMIN (bpf_prog_get_fd_by_id).
//
// To attach a program and to detach it, the kernel asks for nothing but its descriptor (BPF_LINK_CREATE, and on newer
// kernels BPF_PROG_ATTACH too). Containers have such descriptors from this plugin. So those commands are never
// left to others, else a caller could exchange its attr meanwhile.
func (s *session) Handle(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	command := req.Uint32(0)
	kernelAsks := asksForCapabilities[command&commandMask]
	a, fault, err := readAttr(ctx, req)
	if err != nil {
		return sdk.Response{}, err
	}
	privileged, err := req.Privileged(ctx, unix.CAP_SYS_ADMIN)
	switch {
	case err != nil:
		return sdk.Response{}, err
	case fault != 0 && kernelAsks:
		return sdk.Next().Because(badArguments, ""), nil
	case fault != 0:
		return sdk.Errno(fault).Because(badArguments, ""), nil
	case !privileged && kernelAsks:
		return sdk.Next().Because(noCapability, req.Lacks(unix.CAP_SYS_ADMIN)), nil
	case !privileged:
		return sdk.Errno(unix.EPERM).Because(noCapability, req.Lacks(unix.CAP_SYS_ADMIN)), nil
	case command > commandMask && kernelAsks:
		return sdk.Next().Because(badArguments, "a command with flags"), nil
	}
	caller, err := req.Target(ctx)
	if err != nil {
		return sdk.Response{}, err
	}
	c := call{session: s, req: req, caller: caller, attr: a}
	switch command {
	case cmdLoad:
		return c.load(ctx)
	case cmdQuery:
		return c.query()
	case cmdGetByID:
		return c.getByID()
	case cmdAttach:
		return c.attach(ctx, parseAttach)
	case cmdLink:
		return c.attach(ctx, parseLink)
	case cmdDetach:
		return c.detach(ctx)
	default:
		return sdk.Errno(unix.EINVAL).Because(badArguments, "a command with flags"), nil
	}
}
