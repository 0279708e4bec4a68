package target

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"unsafe"

	"github.com/intercede/intercede/internal/capture"
	"golang.org/x/sys/unix"
)

// inside is what is needed to enter all of a target's namespaces.
type inside struct {
	*Place
	user       int // the user namespace, a descriptor of its own
	namespace  NamespaceID
	namespaces []int // all but user and mount; the Target's
}

// otherNamespaces are all but those of users and mounts.
var otherNamespaces = []capture.Part{
	capture.PartNetNamespace, capture.PartIPCNamespace, capture.PartUTSNamespace,
	capture.PartCgroupNamespace, capture.PartPIDNamespace, capture.PartTimeNamespace,
}

func (t *Target) openInside() (*inside, error) {
	p, err := t.Place()
	if err != nil {
		return nil, err
	}
	in := &inside{Place: p, user: -1}
	if in.namespaces, err = t.borrowNamespaces(); err != nil {
		return nil, err
	}
	in.user, in.namespace, err = t.openUserNamespace()
	return in, err
}

// borrowNamespaces are the descriptors of the other namespaces, as far as the kernel has such.
func (t *Target) borrowNamespaces() (fds []int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.capture(otherNamespaces...); err != nil {
		return nil, err
	}
	for _, part := range otherNamespaces {
		h, err := t.borrow(part)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, err
		}
		fds = append(fds, h.fd)
	}
	return fds, nil
}

// close leaves the place and the other namespaces to the target.
func (in *inside) close() { closeAll(&in.user) }

// addPlace moves the process to the place, by this process's power over the mount namespace: a target in a user
// namespace nested deeper has none.
func (s *Steps) addPlace(p *Place) {
	s.KeepOpen(p.mount, p.root, p.cwd)
	s.Add("setns to the mount namespace", unix.SYS_SETNS, p.mount, unix.CLONE_NEWNS)
	s.Add("the root", unix.SYS_FCHDIR, p.root)
	s.Add("the root", unix.SYS_CHROOT, ".")
	s.Add("the working directory", unix.SYS_FCHDIR, p.cwd)
}

// addPower gives the process what the kernel asks about access to files. The ids come before the user namespace, so
// that they are those of this process's. Joining it gives all capabilities in it, of which the target's own are kept.
func (s *Steps) addPower(user int, c *Credentials) {
	s.KeepOpen(user)
	s.addGroups(c.Groups)
	s.Add("setfsgid", unix.SYS_SETFSGID, uintptr(c.GIDs.Filesystem))
	s.Add("setfsuid", unix.SYS_SETFSUID, uintptr(c.UIDs.Filesystem))
	s.Add("setns to the user namespace", unix.SYS_SETNS, user, unix.CLONE_NEWUSER)
	s.SetCapabilities(c.Effective, c.Permitted, 0)
}

// Reopen opens anew (open(2), flags as there) the file that fd, an own descriptor (O_PATH will do), is open on, as the
// target would: in its cgroups, so that their device rules are asked, and with all its credentials and capabilities.
// The caller closes the descriptor. The error wraps the kernel's errno if it is that of the open; os.ErrProcessDone if
// the target is gone; ctx's if that ends first.
func (t *Target) Reopen(ctx context.Context, fd, flags int) (int, error) {
	s := &Steps{}
	_, namespace, release, err := t.addReopen(s, fd, flags, "devices")
	if err != nil {
		return -1, entryError(err)
	}
	defer release()
	opened, err := s.Open(ctx, namespace)
	return opened, stepsError(ctx, err, stepReopen)
}

// addReopen adds the steps of Reopen, in cgroups with these controllers. It gives the user namespace that the process
// is then in. What the steps need is released by the function returned.
func (t *Target) addReopen(s *Steps, fd, flags int, controllers ...string) (opened Result, namespace NamespaceID, release func(), err error) {
	user, procfs := -1, -1
	defer func() {
		if err != nil {
			closeAll(&user, &procfs)
		}
	}()
	if user, namespace, err = t.openUserNamespace(); err != nil {
		return opened, namespace, nil, err
	}
	credentials, err := t.Credentials()
	if err != nil {
		return opened, namespace, nil, err
	}
	// The process stays in this one's mount namespace: the magic links of the target's procfs may be any link.
	if procfs, err = unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return opened, namespace, nil, &os.PathError{Op: "open", Path: "/proc", Err: err}
	}
	s.KeepOpen(procfs, fd)
	leave, err := t.JoinCgroups(s, controllers...)
	if err != nil {
		return opened, namespace, nil, err
	}
	s.addPower(user, credentials)
	opened = s.Add(stepReopen, unix.SYS_OPENAT, procfs, "self/fd/"+strconv.Itoa(fd), flags|unix.O_CLOEXEC, 0)
	return opened, namespace, func() {
		leave()
		closeAll(&user, &procfs)
	}, nil
}

// stepsError is the error of steps of which these alone fail for what the file is: others fail for what this process
// is.
func stepsError(ctx context.Context, err error, files ...string) error {
	var failed *StepError
	if err == nil || ctx.Err() != nil || errors.As(err, &failed) && slices.Contains(files, failed.What) {
		return err
	}
	return entryError(err)
}

// stepReopen names the step whose errno is the file's.
const stepReopen = "open"

func (s *Steps) addGroups(groups []uint32) {
	s.Keep(groups)
	s.Add("setgroups", unix.SYS_SETGROUPS, len(groups), unsafe.Pointer(unsafe.SliceData(groups)))
}

// SetCapabilities adds a step that sets the three sets of the process (capset(2)).
func (s *Steps) SetCapabilities(effective, permitted, inheritable Capabilities) {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := capabilitySets(effective, permitted, inheritable).Data()
	s.Keep(header)
	s.Keep(data)
	s.Add("capset", unix.SYS_CAPSET, unsafe.Pointer(header), unsafe.Pointer(data))
}
