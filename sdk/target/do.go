package target

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/pause"
	"golang.org/x/sys/unix"
)

// Do runs fn in the target's place: on an OS thread of its own (or on the one that handles the notification) that has
// joined the target's mount namespace, has its root and working directory, filesystem user and group id,
// supplementary groups and umask. So the kernel resolves paths and checks permissions as it would for the target.
//
// Of capabilities the thread has effective only those lent. It has none of the target's power over files of others
// (CAP_DAC_OVERRIDE, CAP_FSETID and their kin): on a thread outside the target's user namespace that power would reach
// the files of the host too. Where a target with such a capability is refused with EACCES, see OpenPath and OpenParent.
//
// To procfs the thread is this process: paths that the target chooses are to be opened without following magic links,
// see OpenParentHere.
//
// The process needs CAP_SYS_ADMIN, CAP_SYS_CHROOT, CAP_SETUID, CAP_SETGID and what it lends. Errors of the entry are of
// this package, with os.ErrProcessDone for a target that was gone before its place was captured; fn's own come back as
// they are. fn must not call Do, since
// the /proc that it sees is the target's, nor leave its work to goroutines: they run on other threads; nor change the
// thread's groups.
func (t *Target) Do(lent Capabilities, fn func() error) error {
	place, err := t.Place()
	if err != nil {
		return err
	}
	if !t.end.IsZero() && time.Now().After(t.end) {
		return fmt.Errorf("thread %d is not acted for: %w", t.tid, os.ErrDeadlineExceeded)
	}
	return place.do(t.own, lent, fn)
}

// Place is where a target stands: its mount namespace, root, working directory and ids. It serves when the thread is
// gone too, until the Target is closed.
type Place struct {
	credentials      *Credentials
	mount, root, cwd int
}

// Place is the target's place.
func (t *Target) Place() (*Place, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lockedPlace()
}

func (t *Target) lockedPlace() (*Place, error) {
	if t.place != nil {
		return t.place, nil
	}
	parts := []capture.Part{capture.PartMountNamespace, capture.PartRoot, capture.PartWorkingDirectory}
	if err := t.capture(append(parts, capture.PartCredentials)...); err != nil {
		return nil, err
	}
	credentials, err := t.lockedCredentials()
	if err != nil {
		return nil, err
	}
	p := &Place{credentials: credentials}
	for i, fd := range [...]*int{&p.mount, &p.root, &p.cwd} {
		h, err := t.borrow(parts[i])
		if err != nil {
			return nil, err
		}
		*fd = h.fd
	}
	t.place = p
	return p, nil
}

// closeAll closes descriptors that are open and makes them -1, so that closing them again does not close another's.
func closeAll(fds ...*int) {
	for _, fd := range fds {
		if *fd >= 0 {
			unix.Close(*fd)
		}
		*fd = -1
	}
}

// Do is [Target.Do] in the place.
func (p *Place) Do(lent Capabilities, fn func() error) error { return p.do(nil, lent, fn) }

// do runs fn in the place, on the own thread if that is the calling one.
func (p *Place) do(own *ownThread, lent Capabilities, fn func() error) error {
	home, err := openHomeOnce()
	if err != nil {
		return err
	}
	visit := func() error {
		pause.At(pause.Enter)
		if err := p.enter(home, lent); err != nil {
			return home.explain(lent, err)
		}
		pause.At(pause.Act)
		return fn()
	}
	if own.isHere() {
		return own.run(p, visit)
	}
	return threads.run(p, visit)
}

// enter moves the calling thread from its home to the place. Capabilities come last: all before needs them.
func (p *Place) enter(from *home, lent Capabilities) error {
	if err := unix.Setns(p.mount, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("setns to the target's mount namespace: %w", err)
	}
	if err := chrootTo(p.root); err != nil {
		return fmt.Errorf("the target's root: %w", err)
	}
	if err := unix.Fchdir(p.cwd); err != nil {
		return fmt.Errorf("the target's working directory: %w", err)
	}
	unix.Umask(int(p.credentials.Umask))
	if err := from.ids.change(p.ids()); err != nil {
		return err
	}
	return setThreadCapabilities(lent, from.permitted, from.inheritable)
}

func (p *Place) ids() ids {
	c := p.credentials
	return ids{c.UIDs.Filesystem, c.GIDs.Filesystem, c.Groups}
}

// chrootTo makes the directory fd the calling thread's root and working directory.
func chrootTo(fd int) error {
	if err := unix.Fchdir(fd); err != nil {
		return fmt.Errorf("fchdir: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return nil
}

// ids are a thread's filesystem ids and supplementary groups.
type ids struct {
	uid, gid uint32
	groups   []uint32
}

// change gives the calling thread, whose groups are those of now, the ids next.
func (now ids) change(next ids) error {
	if !slices.Equal(now.groups, next.groups) {
		if err := linux.SetThreadGroups(next.groups); err != nil {
			return err
		}
	}
	return linux.SetThreadFilesystemIDs(next.uid, next.gid)
}

// home is what a thread returns to after a job.
type home struct {
	mount, root            int
	umask                  int
	ids                    ids
	permitted, inheritable Capabilities
}

// openHomeOnce is the home of all threads of the process.
var openHomeOnce = sync.OnceValues(openHome)

func openHome() (*home, error) {
	h := &home{ids: ids{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}}
	groups, err := unix.Getgroups()
	if err != nil {
		return nil, fmt.Errorf("getgroups: %w", err)
	}
	for _, g := range groups {
		h.ids.groups = append(h.ids.groups, uint32(g))
	}
	status, err := os.ReadFile("/proc/thread-self/status") // umask(2) cannot ask without a change
	if err != nil {
		return nil, err
	}
	var own capture.Credentials
	if err := capture.ParseStatus(status, &own); err != nil {
		return nil, err
	}
	h.umask = int(own.Umask)
	capabilities, err := linux.ThreadCapabilities()
	if err != nil {
		return nil, err
	}
	h.permitted, h.inheritable = Capabilities(capabilities.Permitted), Capabilities(capabilities.Inheritable)
	if h.mount, err = unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("open the own mount namespace: %w", err)
	}
	if h.root, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		unix.Close(h.mount)
		return nil, fmt.Errorf("open the own root: %w", err)
	}
	return h, nil
}

// entering is what entering a place needs.
var entering = CapabilitySet(unix.CAP_SYS_ADMIN, unix.CAP_SYS_CHROOT, unix.CAP_SETUID, unix.CAP_SETGID)

// explain adds to an error of the entry which capabilities this process lacks for it.
func (h *home) explain(lent Capabilities, err error) error {
	missing := (entering | lent) &^ h.permitted
	if missing == 0 {
		return err
	}
	return fmt.Errorf("%w: this process lacks %v; a plugin declares what it needs in Manifest.Capabilities", err, missing)
}

// restore brings the calling thread home from the place, as far as it has got there.
func (h *home) restore(from *Place) error {
	unix.Umask(h.umask)
	if err := h.raise(); err != nil {
		return err
	}
	if err := from.ids().change(h.ids); err != nil {
		return err
	}
	// A change between filesystem user id 0 and another changes the effective set (capabilities(7)).
	if h.ids.uid == 0 || from.ids().uid == 0 {
		if err := h.raise(); err != nil {
			return err
		}
	}
	if err := unix.Setns(h.mount, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("setns to the own mount namespace: %w", err)
	}
	return chrootTo(h.root)
}

// raise makes all permitted capabilities effective.
func (h *home) raise() error {
	return setThreadCapabilities(h.permitted, h.permitted, h.inheritable)
}

// threads is the pool that Do works on.
var threads pool

// pool keeps OS threads that have left the process's filesystem context (CLONE_FS): only such a thread may change its
// mount namespace. One that could not be restored is thrown away.
type pool struct {
	mu   sync.Mutex
	idle []*thread
}

// maxIdle bounds the threads kept for later.
const maxIdle = 16

// thread is a goroutine with an OS thread of its own.
type thread struct {
	jobs chan *job
}

type job struct {
	place    *Place
	fn       func() error
	err      error
	panicked any
	done     chan struct{}
	reusable bool
}

// run runs fn, which goes to the place, on a thread of the pool and returns its error; a panic in fn is raised again in
// the caller.
func (p *pool) run(place *Place, fn func() error) error {
	th, err := p.take()
	if err != nil {
		return err
	}
	j := &job{place: place, fn: fn, done: make(chan struct{})}
	th.jobs <- j
	<-j.done
	if j.reusable {
		p.put(th)
	}
	if j.panicked != nil {
		panic(j.panicked)
	}
	return j.err
}

func (p *pool) take() (*thread, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 {
		th := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return th, nil
	}
	home, err := openHomeOnce()
	if err != nil {
		return nil, err
	}
	th := &thread{jobs: make(chan *job)}
	started := make(chan error)
	GoOnThread(func() { th.loop(home, started) })
	return th, <-started
}

func (p *pool) put(th *thread) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) >= maxIdle {
		close(th.jobs)
		return
	}
	p.idle = append(p.idle, th)
}

// loop runs on a thread of its own.
func (th *thread) loop(h *home, started chan<- error) {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		started <- fmt.Errorf("unshare(CLONE_FS): %w", err)
		return
	}
	started <- nil
	for j := range th.jobs {
		j.run()
		j.reusable = h.restore(j.place) == nil
		close(j.done)
		if !j.reusable {
			return
		}
	}
}

// run runs the job. If fn ends the goroutine (runtime.Goexit, as testing.T.FailNow does), the thread ends with it.
func (j *job) run() {
	returned := false
	defer func() {
		j.panicked = recover()
		if !returned && j.panicked == nil {
			j.err = errors.New("the function ended its goroutine")
			close(j.done)
		}
	}()
	j.err = j.fn()
	returned = true
}
