package setxattr

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// openDescriptors opens /proc/self/fd, once. By it a file that is held by an O_PATH descriptor has a path on every
// kernel and in every mount namespace (setxattrat(2) takes no such descriptor), whatever the caller has for a /proc.
var openDescriptors = sync.OnceValues(func() (int, error) {
	const name = "/proc/self/fd"
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return fd, nil
})

// job is a call to perform for a caller.
type job struct {
	session
	call
	req         *sdk.Request
	caller      *target.Target
	credentials *target.Credentials
}

// perform performs the call on the file that the caller names, or leaves it to others where it is not for the caller to
// do.
func (s session) perform(ctx context.Context, req *sdk.Request, c call) (sdk.Response, error) {
	caller, err := req.Target(ctx)
	if err != nil {
		return sdk.Response{}, err
	}
	credentials, err := caller.Credentials()
	if err != nil {
		return sdk.Response{}, err
	}
	j := job{s, c, req, caller, credentials}
	if j.file.path == "" {
		return j.performOnDescriptor(ctx)
	}
	start, release, err := caller.OpenStart(j.file.dirFD, j.file.path)
	if errors.Is(err, unix.EBADF) {
		return sdk.Continue().Because(badFile, ""), nil // EBADF; xattr_permission (fs/xattr.c) if it is open by now
	}
	if err != nil {
		return sdk.Response{}, err
	}
	defer release()
	response, refused, err := j.performByName(start)
	switch {
	case err != nil:
		return sdk.Response{}, err
	case target.MayNeedPower(refused):
		return j.performByPower(ctx, start)
	case refused != nil:
		return refusal(refused)
	}
	return response, nil
}

// performOnDescriptor performs the call on the file that a descriptor of the caller is open on. One with O_PATH is none
// to the kernel here.
func (j job) performOnDescriptor(ctx context.Context) (sdk.Response, error) {
	d, err := j.caller.OpenDescriptor(j.file.dirFD)
	if errors.Is(err, unix.EBADF) {
		return sdk.Continue().Because(badFile, ""), nil // EBADF; xattr_permission (fs/xattr.c) if it is open by now
	}
	if err != nil {
		return sdk.Response{}, err
	}
	defer d.File.Close()
	if d.Flags&unix.O_PATH != 0 {
		return sdk.Continue().Because(badFile, ""), nil // EBADF, as above
	}
	return j.performOn(d.File)
}

// lent is what the kernel asks for.
var lent = target.CapabilitySet(unix.CAP_SYS_ADMIN)

// performByName performs the call on the file to which the caller's ids alone lead, in one visit to its place; refused
// is why they lead nowhere.
func (j job) performByName(start int) (response sdk.Response, refused, err error) {
	err = j.caller.Do(lent, func() error {
		var file *os.File
		if file, refused = target.OpenPathHere(start, j.file.path, j.file.follow); refused != nil {
			return nil
		}
		defer file.Close()
		response, err = j.act(file)
		return err
	})
	return response, refused, err
}

// performByPower is for what the caller's ids alone do not reach: a file that it reaches by a capability in its own
// user namespace, or through a link of procfs that is different for it.
func (j job) performByPower(ctx context.Context, start int) (sdk.Response, error) {
	file, err := j.caller.OpenPath(ctx, start, j.file.path, j.file.follow)
	if err != nil {
		return refusal(err)
	}
	defer file.Close()
	// That took long: the caller may be gone.
	if err := j.req.CheckValid(ctx); err != nil {
		return sdk.Response{}, err
	}
	return j.performOn(file)
}

// performOn performs the call on an open file (O_PATH).
func (j job) performOn(file *os.File) (response sdk.Response, err error) {
	err = j.caller.Do(lent, func() error {
		response, err = j.act(file)
		return err
	})
	return response, err
}

// refusal continues where the kernel refused what the caller asked, so that it says so to the caller itself; every
// other error means that the plugin failed.
func refusal(err error) (sdk.Response, error) {
	var errno unix.Errno
	if errors.As(err, &errno) && !errors.Is(err, os.ErrProcessDone) {
		return sdk.Continue().Because(badFile, unix.ErrnoName(errno)), nil // the path's errno; xattr_permission (fs/xattr.c) if it leads to a file by now
	}
	return sdk.Response{}, err
}

// act performs the operation on the file, on a thread that is in the caller's place and has the lent capability.
func (j job) act(file *os.File) (sdk.Response, error) {
	if !j.owns(file) {
		return sdk.Next().Because(notOwner, ""), nil
	}
	if err := unix.Fchdir(j.descriptors); err != nil {
		return sdk.Response{}, fmt.Errorf("fchdir to /proc/self/fd: %w", err)
	}
	link := strconv.Itoa(int(file.Fd()))
	if j.done != nil {
		*j.done = j.isDone(file, link)
		return sdk.Response{}, nil
	}
	switch j.operation {
	case set:
		return j.set(file, link), nil
	case get:
		return j.get(link), nil
	case list:
		return j.list(link), nil
	default:
		return j.remove(link), nil
	}
}

// isDone reports whether the file is as the call leaves it, and was changed since it was received. Who changes the file
// otherwise meanwhile gets success for an error: EEXIST, or ENODATA.
func (j job) isDone(file *os.File, link string) bool {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil || !j.req.ChangedSince(st.Ctim) {
		return false
	}
	value, errno := j.current(link, j.name)
	if j.operation == remove {
		return errno == unix.ENODATA
	}
	return errno == 0 && value == j.value
}

// owns reports whether the file belongs to the caller, or the caller has power over it (inode_owner_or_capable,
// fs/inode.c): the kernel asks for no more than CAP_SYS_ADMIN, and would let the plugin change files of the host. Files
// of a filesystem that the container serves itself (FUSE) have no owner that the plugin could find out without waiting
// for the container.
func (j job) owns(file *os.File) bool {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return false
	}
	if !j.req.Container.Maps(st.Uid, st.Gid) {
		return false
	}
	return st.Uid == j.credentials.UIDs.Filesystem || j.credentials.Effective.Has(unix.CAP_FOWNER)
}

// answer is the kernel's own.
func answer(err error) sdk.Response {
	if err != nil {
		return sdk.Errno(toErrno(err)).Because(kernelRefused, "")
	}
	return sdk.Return(0)
}

// toErrno is for errors of package unix, which are errnos.
func toErrno(err error) unix.Errno {
	var errno unix.Errno
	errors.As(err, &errno)
	return errno
}
