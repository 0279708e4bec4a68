package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nsGetUserNS opens the user namespace that owns a namespace (NS_GET_USERNS, ioctl_ns(2)).
const nsGetUserNS = 0xb701 // _IO(0xb7, 0x1)

// MountNamespaceOwner identifies the user namespace that owns the thread's mount namespace: mounting there needs
// CAP_SYS_ADMIN in it.
func (t *Target) MountNamespaceOwner() (NamespaceID, error) {
	p, err := t.openPlace()
	if err != nil {
		return NamespaceID{}, err
	}
	owner, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(p.mount), nsGetUserNS, 0)
	if errno != 0 {
		return NamespaceID{}, fmt.Errorf("owner of the mount namespace of thread %d: %w", t.tid, errno)
	}
	defer unix.Close(int(owner))
	return fstatNamespace(int(owner))
}

// OpenUserNamespace opens the thread's user namespace; the caller closes the descriptor.
func (t *Target) OpenUserNamespace() (int, error) { return t.open("ns/user", unix.O_RDONLY) }

// Reopen opens anew (open(2), flags as there) the file that fd, an own descriptor (O_PATH will do), is open on, as the
// target would: in its cgroups, so that their device rules are asked, and with all its credentials and capabilities. The
// caller closes the descriptor. The error wraps the kernel's errno if it is that of the open; os.ErrProcessDone if the
// target is gone; ctx's if that ends first.
func (t *Target) Reopen(ctx context.Context, fd, flags int) (int, error) {
	user, err := t.OpenUserNamespace()
	if err != nil {
		return -1, entryError(err)
	}
	defer unix.Close(user)
	namespace, err := fstatNamespace(user)
	if err != nil {
		return -1, entryError(err)
	}
	credentials, err := t.Credentials()
	if err != nil {
		return -1, entryError(err)
	}
	// The process stays in this one's mount namespace: the magic links of the target's procfs may be any link.
	procfs, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, entryError(&os.PathError{Op: "open", Path: "/proc", Err: err})
	}
	defer unix.Close(procfs)
	s := &Steps{}
	s.KeepOpen(user, procfs, fd)
	release, err := t.JoinCgroups(s, "devices")
	if err != nil {
		return -1, entryError(err)
	}
	defer release()
	s.addGroups(credentials.Groups)
	s.Add("setfsgid", unix.SYS_SETFSGID, uintptr(credentials.GIDs.Filesystem))
	s.Add("setfsuid", unix.SYS_SETFSUID, uintptr(credentials.UIDs.Filesystem))
	s.Add("setns to the user namespace", unix.SYS_SETNS, user, unix.CLONE_NEWUSER)
	s.addCapabilities(credentials.Effective, credentials.Permitted, 0)
	s.Add(stepReopen, unix.SYS_OPENAT, procfs, "self/fd/"+strconv.Itoa(fd), flags|unix.O_CLOEXEC, 0)
	if err := t.confirmReads(); err != nil {
		return -1, err
	}
	opened, err := s.Open(ctx, namespace)
	var failed *StepError
	if err == nil || ctx.Err() != nil || errors.As(err, &failed) && failed.What == stepReopen {
		return opened, err
	}
	return -1, entryError(err)
}

// stepReopen names the step whose errno is the file's.
const stepReopen = "open"

func (s *Steps) addGroups(groups []uint32) {
	s.Keep(groups)
	s.Add("setgroups", unix.SYS_SETGROUPS, len(groups), unsafe.Pointer(unsafe.SliceData(groups)))
}

func (s *Steps) addCapabilities(effective, permitted, inheritable Capabilities) {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := capabilityData(effective, permitted, inheritable)
	s.Keep(header)
	s.Keep(data)
	s.Add("capset", unix.SYS_CAPSET, unsafe.Pointer(header), unsafe.Pointer(data))
}

// capabilityData is what capset(2) takes.
func capabilityData(effective, permitted, inheritable Capabilities) *[2]unix.CapUserData {
	var data [2]unix.CapUserData
	for i := range data {
		data[i] = unix.CapUserData{
			Effective:   uint32(effective >> (32 * i)),
			Permitted:   uint32(permitted >> (32 * i)),
			Inheritable: uint32(inheritable >> (32 * i)),
		}
	}
	return &data
}

// Place is where a target stands: its mount namespace, root, working directory and ids. It serves when the thread is gone too,
// until the Target is closed.
type Place struct {
	place *place
}

// Place is the target's place.
func (t *Target) Place() (*Place, error) {
	p, err := t.openPlace()
	if err != nil {
		return nil, err
	}
	if err := t.confirmReads(); err != nil {
		return nil, err
	}
	return &Place{p}, nil
}

// Do is Target.Do in a place.
func (p *Place) Do(lent Capabilities, fn func() error) error {
	return p.place.do(nil, lent, fn)
}
