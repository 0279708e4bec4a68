package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"time"
	"unsafe"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// Steps are system calls that a process of its own makes, one after the other until one fails: for what a thread of a
// Go program cannot do, such as joining a user namespace or another's cgroup. It is a copy of this process, which is
// forked and ends with the last step.
//
// Arguments are prepared before: numbers, strings and memory of this process, of which the process has a copy, and
// results of earlier steps. Of this process's descriptors it has none but those of KeepOpen: one that lingers would
// hold what others wait for the end of.
type Steps struct {
	steps []step
	memory
	kept     []int // descriptors that the process keeps
	unneeded []span
	socket   int // the process's end
	report   *report
}

// span is a range of descriptors.
type span struct {
	first, last int
}

// step is one system call. It holds addresses of memory that Steps keeps alive.
type step struct {
	what    string
	number  uintptr
	args    [6]uintptr
	from    [6]int // 1 and above: the argument is the result of this step, counted from 1
	result  uintptr
	into    *int32 // where the result is stored too
	orElse  bool   // ENOENT is not a failure: the next step is another way
	branch  bool   // it forks, and this process ends; what it forked goes on
	ignored bool   // its failure does not count
}

// memory keeps what steps point to.
type memory struct {
	pins []any
}

// report is shared by this process and those that it forks.
type report struct {
	failed int32 // the step, counted from 1
	errno  int32
	done   int32 // it made all its steps
	pid    int32 // of the process that a branch left, in this process's pid namespace
	closed int32 // it has closed the descriptors that it does not need
}

var errNoDescriptor = errors.New("no descriptor came with the answer")

// Result is what a step returns, for the arguments of later ones.
type Result struct {
	step int // counted from 1
}

// StepError is a step that failed. It wraps the errno.
type StepError struct {
	What  string
	Errno unix.Errno
}

func (e *StepError) Error() string { return fmt.Sprintf("%s: %v", e.What, e.Errno) }

// Unwrap gives the errno.
func (e *StepError) Unwrap() error { return e.Errno }

// Add adds the system call number. What names it in errors. An argument is an int, a uintptr, an unsafe.Pointer to
// memory that Keep was given, a string (which gets its NUL), or a Result.
func (s *Steps) Add(what string, number uintptr, args ...any) Result {
	st := step{what: what, number: number}
	for i, arg := range args {
		switch v := arg.(type) {
		case int:
			st.args[i] = uintptr(v)
		case uintptr:
			st.args[i] = v
		case unsafe.Pointer:
			st.args[i] = uintptr(v)
		case string:
			st.args[i] = s.text(v)
		case Result:
			st.from[i] = v.step
		default:
			panic(fmt.Sprintf("target: argument %d of step %q is a %T", i, what, arg))
		}
	}
	s.steps = append(s.steps, st)
	return Result{len(s.steps)}
}

// last is the step that was added last.
func (s *Steps) last() *step { return &s.steps[len(s.steps)-1] }

// Keep keeps memory alive that an argument points to.
func (m *memory) Keep(pointer any) { m.pins = append(m.pins, pointer) }

// text is the address of a copy of the string with its NUL.
func (m *memory) text(text string) uintptr {
	bytes := append([]byte(text), 0)
	m.Keep(bytes)
	return uintptr(unsafe.Pointer(&bytes[0]))
}

// pointers is the address of an array of strings that ends with NULL, as execve(2) takes it.
func (m *memory) pointers(texts []string) uintptr {
	array := make([]uintptr, len(texts)+1)
	for i, text := range texts {
		array[i] = m.text(text)
	}
	m.Keep(array)
	return uintptr(unsafe.Pointer(&array[0]))
}

// KeepOpen leaves the process descriptors of this one.
func (s *Steps) KeepOpen(fds ...int) { s.kept = append(s.kept, fds...) }

// allBut are the ranges of all descriptors but these.
func allBut(kept ...int) []span {
	slices.Sort(kept)
	var ranges []span
	first := 0
	for _, fd := range append(slices.Compact(kept), math.MaxInt32) {
		if fd > first {
			ranges = append(ranges, span{first, fd - 1})
		}
		first = fd + 1
	}
	return ranges
}

// closeAllBut adds the closing of all descriptors but these, and the one to answer by.
func (s *Steps) closeAllBut(kept ...int) {
	for _, r := range allBut(append(kept, s.socket)...) {
		s.Add("close_range", unix.SYS_CLOSE_RANGE, r.first, r.last, 0)
	}
}

// answerWith adds the sending of a descriptor to this process.
func (s *Steps) answerWith(result Result) {
	packet := linux.NewPacket([]byte{0}, true)
	s.Keep(packet)
	s.steps[result.step-1].into = packet.Descriptor
	s.Add("sendmsg", unix.SYS_SENDMSG, s.socket, unsafe.Pointer(&packet.Header), unix.MSG_NOSIGNAL)
}

// Run makes the steps. The error is ctx's, or wraps the *StepError of the step that failed. A process that lingers
// although it is killed is left behind, at most 16 for a user namespace; further ones of that namespace wait.
//
// While this process has calls of more than one container, processes of one namespace begin at intervals: see turns.
func (s *Steps) Run(ctx context.Context, namespace NamespaceID) error {
	if err := turns.await(ctx, namespace); err != nil {
		return err
	}
	return s.run(ctx, namespace)
}

// run is Run without a turn.
func (s *Steps) run(ctx context.Context, namespace NamespaceID) error {
	_, err := s.perform(ctx, namespace, func() {})
	if err == io.EOF {
		return nil
	}
	return err
}

// Open is like Run, and returns the descriptor that the last step returned, close-on-exec.
func (s *Steps) Open(ctx context.Context, namespace NamespaceID) (int, error) {
	return s.open(ctx, namespace, Result{len(s.steps)})
}

// open is like Run, and returns the descriptor that a step returned.
func (s *Steps) open(ctx context.Context, namespace NamespaceID, opened Result) (int, error) {
	if err := turns.await(ctx, namespace); err != nil {
		return -1, err
	}
	fd, err := s.perform(ctx, namespace, func() { s.answerWith(opened) })
	if err == io.EOF {
		return -1, errors.New("the helper process ended without an answer")
	}
	return fd, err
}

// perform makes the steps and returns the descriptor that they sent. The error is io.EOF if they succeeded without.
func (s *Steps) perform(ctx context.Context, namespace NamespaceID, finish func()) (int, error) {
	leave, err := helpers.enter(ctx, namespace)
	if err != nil {
		return -1, err
	}
	run, err := s.start(finish)
	if err != nil {
		leave()
		return -1, err
	}
	fd, err := run.receive(ctx)
	ended := make(chan error, 1)
	go func() {
		defer leave()
		defer run.free()
		ended <- run.wait()
	}()
	// What the process has of namespaces and mounts is to be gone too.
	failure := firstOf(ctx, ended)
	if failure != nil && err == nil {
		unix.Close(fd)
	}
	return fd, cmp.Or(failure, err)
}

// firstOf waits for the end of a process, or of ctx. The error is ctx's if ctx has ended: a process that is killed then
// has failed for no other reason.
func firstOf(ctx context.Context, ended <-chan error) error {
	select {
	case failure := <-ended:
		return cmp.Or(ctx.Err(), failure)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// running is a forked process.
type running struct {
	steps  *Steps
	pid    int
	socket *os.File
	page   []byte
	report *report
	over   func() // see copying
}

// start forks. Finish adds the steps that need the socket.
func (s *Steps) start(finish func()) (*running, error) {
	socket, theirs, err := linux.Socketpair(unix.SOCK_SEQPACKET | unix.SOCK_NONBLOCK)
	if err != nil {
		return nil, err
	}
	defer unix.Close(theirs)
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		unix.Close(socket)
		return nil, fmt.Errorf("mmap: %w", err)
	}
	s.socket, s.report = theirs, (*report)(unsafe.Pointer(&page[0]))
	s.unneeded = allBut(append(slices.Clone(s.kept), s.socket)...)
	finish()
	over := copying(s.report)
	pid, err := s.fork()
	if err != nil {
		over()
		unix.Munmap(page)
		unix.Close(socket)
		return nil, err
	}
	return &running{s, pid, os.NewFile(uintptr(socket), "answer"), page, s.report, over}, nil
}

// free is for when the report has been read.
func (r *running) free() {
	r.over()
	unix.Munmap(r.page)
}

// receive waits for a descriptor, and kills the process if ctx ends first. The error is io.EOF if the process ended
// without sending one. It closes the socket: a process that lingers although it is killed holds no descriptor of this
// one.
func (r *running) receive(ctx context.Context) (int, error) {
	defer r.socket.Close()
	stop := context.AfterFunc(ctx, func() { r.socket.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	fd, err := receiveDescriptor(r.socket)
	if ctx.Err() != nil {
		unix.Kill(r.pid, unix.SIGKILL)
	}
	return fd, err
}

// wait waits for the end of the process. It returns what failed.
func (r *running) wait() error {
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(r.pid, &status, unix.WALL, nil); err != unix.EINTR {
			return r.failure(status)
		}
	}
}

// failure is the step that failed in a process that has ended; nil: none.
func (r *running) failure(status unix.WaitStatus) error {
	switch {
	case r.report.errno != 0:
		return &StepError{r.steps.steps[r.report.failed-1].what, unix.Errno(r.report.errno)}
	case status.Signaled() && r.report.done == 0:
		return fmt.Errorf("the helper process was killed (%v)", status.Signal())
	}
	return nil
}

// fork makes a child that shares nothing with this process, and makes the calls.
//
// The child is a copy of one thread of a Go program whose other threads, locks and collector are not there: it may only
// make raw system calls on memory prepared before, on the stack that it has (nosplit), without instrumentation
// (norace). Signals stay blocked in it, so that no Go signal handler runs there. As syscall.forkExec does, without the
// exec.
func (s *Steps) fork() (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	signals, err := linux.BlockSignals()
	if err != nil {
		return 0, err
	}
	began := linux.ThreadTime()
	pid, errno := s.forkChild()
	turns.forked(linux.ThreadTime() - began)
	linux.RestoreSignals(signals)
	if errno != 0 {
		return 0, fmt.Errorf("clone: %w", errno)
	}
	runtime.KeepAlive(s)
	return pid, nil
}

//go:nosplit
//go:norace
func (s *Steps) forkChild() (int, unix.Errno) {
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		return int(pid), errno
	}
	s.child()
	for {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}

// child makes the calls, with no descriptor that it does not need.
//
//go:nosplit
//go:norace
func (s *Steps) child() {
	beOrdinary()
	for i := range s.unneeded {
		unix.RawSyscall(unix.SYS_CLOSE_RANGE, uintptr(s.unneeded[i].first), uintptr(s.unneeded[i].last), 0)
	}
	s.report.closed = 1
	for i := range s.steps {
		st := &s.steps[i]
		for a := range st.args {
			if from := st.from[a]; from > 0 {
				st.args[a] = s.steps[from-1].result
			}
		}
		result, _, errno := unix.RawSyscall6(st.number, st.args[0], st.args[1], st.args[2], st.args[3], st.args[4], st.args[5])
		if errno != 0 {
			if st.ignored || st.orElse && errno == unix.ENOENT {
				continue
			}
			s.report.failed, s.report.errno = int32(i)+1, int32(errno)
			return
		}
		st.result = result
		if st.into != nil {
			*st.into = int32(result)
		}
		if st.branch && result != 0 {
			break
		}
	}
	s.report.done = 1
}

// everywhere are the processors that this process may run on, and raised whether it comes before most others.
var everywhere, raised = func() (set unix.CPUSet, raised bool) {
	unix.SchedGetaffinity(0, &set)
	priority, err := linux.ThreadPriority(0)
	return set, err == nil && (priority.FIFO != 0 || priority.Nice < 0)
}()

// ordinary is for sched_setscheduler(2).
var ordinary struct{ priority int32 }

// beOrdinary takes from a forked process what this one has of the processors' time, which is not for what it does, or
// becomes: the priority, and the processor that a lane's thread is kept on.
//
//go:nosplit
//go:norace
func beOrdinary() {
	unix.RawSyscall(unix.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(everywhere), uintptr(unsafe.Pointer(&everywhere)))
	if raised {
		unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_NORMAL, uintptr(unsafe.Pointer(&ordinary)))
		unix.RawSyscall(unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, 0)
	}
}

// receiveDescriptor receives a message with one descriptor.
func receiveDescriptor(socket *os.File) (int, error) {
	connection, err := socket.SyscallConn()
	if err != nil {
		return -1, err
	}
	var fds []int
	var failure error
	err = connection.Read(func(fd uintptr) bool {
		_, fds, failure = linux.Receive(int(fd), make([]byte, 1), 1)
		return !errors.Is(failure, unix.EAGAIN)
	})
	switch {
	case err != nil:
		return -1, err
	case failure != nil:
		return -1, failure
	case len(fds) == 0:
		return -1, errNoDescriptor
	}
	return fds[0], nil
}
