package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// handlerPath is where a handler that is named without a slash is looked for, in the container.
var handlerPath = []string{"/sbin", "/bin", "/usr/sbin", "/usr/bin"}

const (
	// fuseGrace is how long the filesystem may take to appear after its handler has ended well.
	fuseGrace = time.Second
	// fuseMargin is left of the call's time to end a handler that hangs.
	fuseMargin = time.Second
	// fusePoll is how often a caller that is gone is noticed.
	fusePoll = 100 * time.Millisecond
	// maxHandlers bounds those of a container that this process waits for: one that stays in the foreground is waited
	// for as long as it serves.
	maxHandlers = 64
)

// isFUSE reports whether a FUSE daemon mounts its own connection, which the kernel lets it do in a user namespace.
func isFUSE(options []option) bool { return hasKey(options, "fd") }

// fuseFlags are the flags that a handler knows as options (mount.fuse3(8)); nosuid and nodev are always given.
var fuseFlags = []struct {
	flag uint64
	name string
}{
	{unix.MS_RDONLY, "ro"},
	{unix.MS_NOEXEC, "noexec"},
	{unix.MS_SYNCHRONOUS, "sync"},
	{unix.MS_DIRSYNC, "dirsync"},
	{unix.MS_NOATIME, "noatime"},
}

// fuseOptions are what the handler gets after -o. What says where files of the host are, does not reach it: it runs
// with the caller's own privileges, so that nothing has to be refused.
func fuseOptions(flags msFlags, data string) string {
	options := []option{{key: "nosuid"}, {key: "nodev"}}
	for _, f := range fuseFlags {
		if flags.has(f.flag) {
			options = append(options, option{key: f.name})
		}
	}
	return joinOptions(append(options, parseOptions(data)...))
}

// argument makes what a caller chose an argument that is no option.
func argument(text string) string {
	if strings.HasPrefix(text, "-") {
		return "./" + text
	}
	return text
}

// handlerPaths are where the handler may be, in the container.
func handlerPaths(name string) []string {
	if strings.Contains(name, "/") {
		return []string{path.Clean("/" + name)}
	}
	var paths []string
	for _, dir := range handlerPath {
		paths = append(paths, dir+"/"+name)
	}
	return paths
}

// mountFUSE has a program of the container mount the filesystem. It returns when the filesystem is there.
func (s *session) mountFUSE(ctx context.Context, req *sdk.Request, c call) error {
	if c.source == nil {
		return refusal{unix.EINVAL, badArguments, "no source"}
	}
	caller, err := req.Target(ctx)
	if err != nil {
		return err
	}
	before, err := mountAt(ctx, caller, c.target)
	if err != nil {
		return err
	}
	if !s.enterHandler() {
		return refusal{unix.EAGAIN, tooManyHandlers, fmt.Sprintf("%d are waited for", maxHandlers)}
	}
	place, err := caller.Place()
	if err != nil {
		s.leaveHandler()
		return err
	}
	r := &fuseRun{session: s, caller: caller, place: place, target: c.target, before: before}
	over, err := s.intents.keep(ctx, req, intent{FUSE: true, Mount: before})
	if err != nil {
		s.leaveHandler()
		return err
	}
	defer over()
	name := s.policy.fuse[*c.fstype]
	if err := r.start(ctx, name, []string{path.Base(name), argument(*c.source), argument(c.target), "-o", fuseOptions(c.flags, c.data)}); err != nil {
		s.intents.forget(ctx, req)
		s.leaveHandler()
		return err
	}
	errno := r.wait(ctx)
	gone := req.CheckValid(ctx)
	if errno != 0 || gone != nil {
		r.undo()
		s.intents.forget(ctx, req)
	}
	r.release()
	switch {
	case gone != nil:
		return gone
	case errno != 0:
		s.warn("%s of the container did not mount %s (%v): %q", name, *c.fstype, errno, r.lastWords)
		code := handlerFailed
		if errno == unix.ETIMEDOUT {
			code = handlerTimeout
		}
		return refusal{errno, code, fmt.Sprintf("%s: %q", name, r.lastWords)}
	}
	return nil
}

func (s *session) enterHandler() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handlers >= maxHandlers {
		return false
	}
	s.handlers++
	return true
}

func (s *session) leaveHandler() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers--
}

// fuseRun is one run of a handler.
type fuseRun struct {
	session   *session
	caller    *target.Target
	place     *target.Place // of the caller, who may be killed meanwhile
	target    string
	before    uint64 // the mount that the target was on
	process   *target.Process
	output    int
	mounts    int // the caller's mountinfo: an exceptional condition when mounts have changed
	lastWords string
}

// start starts the handler. The errno for one that is not there is the kernel's for a filesystem that it does not know.
func (r *fuseRun) start(ctx context.Context, name string, args []string) error {
	var err error
	r.mounts = -1
	if r.output, err = newOutput(); err != nil {
		return err
	}
	r.mounts, err = r.caller.OpenMountinfo()
	if err == nil {
		r.process, err = r.caller.Start(ctx, target.Program{
			Paths: handlerPaths(name), Args: args, Env: []string{"PATH=" + strings.Join(handlerPath, ":")}, Output: r.output,
		})
	}
	if err == nil {
		return nil
	}
	r.closeFiles()
	var failed *target.StepError
	if errors.As(err, &failed) && failed.What == target.StepExecute {
		r.session.warn("handler %s cannot be executed in the container: %v", name, failed.Errno)
		return refusal{unix.ENODEV, handlerMissing, fmt.Sprintf("%s: %v", name, failed.Errno)}
	}
	return err
}

func (r *fuseRun) closeFiles() {
	unix.Close(r.output)
	if r.mounts >= 0 {
		unix.Close(r.mounts)
	}
}

// wait waits until the filesystem is there, or the handler has failed, or the call's time is over. The errno is 0 if
// the filesystem is there.
func (r *fuseRun) wait(ctx context.Context) unix.Errno {
	deadline, limited := ctx.Deadline()
	deadline = deadline.Add(-fuseMargin)
	ended := false
	for {
		if mounted, err := r.mounted(ctx); mounted || err != nil {
			return errnoOf(err)
		}
		if limited && time.Now().After(deadline) || ctx.Err() != nil {
			if ended {
				return unix.EINVAL
			}
			return unix.ETIMEDOUT
		}
		changes := []unix.PollFd{{Fd: int32(r.mounts), Events: unix.POLLPRI}}
		if !ended {
			changes = append(changes, unix.PollFd{Fd: int32(r.process.Pidfd()), Events: unix.POLLIN})
		}
		unix.Poll(changes, int(fusePoll.Milliseconds()))
		if ended || changes[1].Revents == 0 {
			continue
		}
		if code, err := r.process.ExitCode(); err != nil || code != 0 {
			return unix.EINVAL
		}
		ended = true
		if grace := time.Now().Add(fuseGrace); !limited || grace.Before(deadline) {
			deadline, limited = grace, true
		}
	}
}

// errnoOf is what the caller gets for an error while its mounts are looked at.
func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &errno):
		return errno
	}
	return unix.EIO
}

// mounted reports whether a FUSE filesystem has come to the target.
func (r *fuseRun) mounted(ctx context.Context) (bool, error) {
	now, err := mountAt(ctx, r.caller, r.target)
	if err != nil || now == r.before {
		return false, err
	}
	return r.isFUSEMount(ctx, now)
}

func (r *fuseRun) isFUSEMount(ctx context.Context, id uint64) (bool, error) {
	line, err := findMount(ctx, &fromStart{fd: r.mounts}, id)
	return line.isFUSE(), err
}

// fromStart reads an open file from its start.
type fromStart struct {
	fd     int
	offset int64
}

func (f *fromStart) Read(data []byte) (int, error) {
	n, err := unix.Pread(f.fd, data, f.offset)
	if err != nil {
		return 0, err
	}
	f.offset += int64(n)
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// undo ends the handler and takes away what it mounted, also for a caller that is gone.
func (r *fuseRun) undo() {
	ctx, cancel := context.WithTimeout(context.Background(), fuseMargin) // the call's own may have ended
	defer cancel()
	if err := r.process.Kill(ctx); err != nil && !errors.Is(err, unix.ESRCH) {
		r.session.warn("a failed handler may still run: %v", err)
	}
	err := r.place.Do(target.CapabilitySet(unix.CAP_SYS_ADMIN), func() error {
		at, err := target.OpenPathHere(unix.AT_FDCWD, r.target, true)
		if err != nil {
			return err
		}
		defer at.Close()
		var st unix.Statx_t
		if err := unix.Statx(int(at.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st); err != nil {
			return err
		}
		if fuse, err := r.isFUSEMount(ctx, st.Mnt_id); !fuse || err != nil || st.Mnt_id == r.before {
			return err
		}
		return unix.Unmount(r.target, unix.MNT_DETACH)
	})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		r.session.warn("what a failed handler mounted may have stayed: %v", err)
	}
}

// release reads the handler's last words and leaves the handler, which may go on serving, to a goroutine that waits for
// its end.
func (r *fuseRun) release() {
	r.lastWords = readOutput(r.output)
	r.closeFiles()
	go func() {
		defer r.session.leaveHandler()
		r.process.Close()
	}()
}

// mountAt is the id of the mount that a path of the caller leads to, without asking its filesystem.
func mountAt(ctx context.Context, caller *target.Target, name string) (uint64, error) {
	at, err := openPath(ctx, caller, name)
	if err != nil {
		return 0, err
	}
	defer at.Close()
	return mountID(int(at.Fd()))
}

// isFUSE reports whether the mount is of a filesystem in user space.
func (l mountLine) isFUSE() bool {
	name, _, _ := strings.Cut(l.fstype, ".")
	return name == "fuse" || name == "fuseblk"
}

const (
	// maxOutput is how much a handler can say. It may go on for ever, and must not be ended by a pipe without a reader.
	maxOutput = 64 << 10
	// maxLastWords is how much of it is logged.
	maxLastWords = 512
)

// newOutput is a file of a fixed size for what a handler says.
func newOutput() (int, error) {
	fd, err := unix.MemfdCreate("handler", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	err = unix.Ftruncate(fd, maxOutput)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("a file for what the handler says: %w", err)
	}
	return fd, nil
}

// readOutput is the end of what the handler said.
func readOutput(fd int) string {
	data := make([]byte, maxOutput)
	n, err := unix.Pread(fd, data, 0)
	if err != nil {
		return ""
	}
	text := strings.TrimSpace(strings.TrimRight(string(data[:n]), "\x00"))
	return text[max(0, len(text)-maxLastWords):]
}
