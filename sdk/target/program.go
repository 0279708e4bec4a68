package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unsafe"

	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// Program is a program to be run inside a target.
type Program struct {
	Paths  []string // the program, in the target's root; tried in this order until one is there
	Args   []string // argv, with the program's name as the first
	Env    []string
	Output int // an own descriptor that becomes its standard output and error
}

// Process is a program that runs inside a target. It leads a session of its own, and is this process's child.
type Process struct {
	pid       int
	pidfd     int
	user      int // the user namespace in which it was started
	namespace NamespaceID
}

// Start runs a program as if the target had started it: in all its namespaces, its cgroups of both versions, its root
// and working directory, with its umask, ids and groups, its limits if they are lower than this process's, and of
// capabilities those that it has effective, with its label of a security module. It has no_new_privs, none of this
// process's descriptors but the output, an input at its end, and the seccomp filters of this process instead of the
// target's, which cannot be copied.
//
// The error wraps unix.ENOENT in a *StepError named StepExecute if the program is not there; os.ErrProcessDone if the
// target is gone; ctx's if that ends first. This process needs what Do and JoinCgroups need.
func (t *Target) Start(ctx context.Context, program Program) (*Process, error) {
	s := &Steps{}
	inside, err := t.openInside()
	if err != nil {
		return nil, err
	}
	defer inside.close()
	s.KeepOpen(append(inside.namespaces, inside.user, program.Output)...)
	release, err := t.JoinCgroups(s)
	if err != nil {
		return nil, err
	}
	defer release()
	input, err := emptyInput()
	if err != nil {
		return nil, err
	}
	defer unix.Close(input)
	s.KeepOpen(input)
	if err := t.enterSteps(s, inside); err != nil {
		return nil, err
	}
	return s.execute(ctx, inside, input, program)
}

// StepExecute names the step that executes a program, in a StepError.
const StepExecute = "execute"

// emptyInput is a descriptor that is at its end.
func emptyInput() (int, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return -1, fmt.Errorf("pipe: %w", err)
	}
	unix.Close(pipe[1])
	return pipe[0], nil
}

// enterSteps moves the process inside. The user namespace comes last: the others may belong to the host.
func (t *Target) enterSteps(s *Steps, in *inside) error {
	if err := t.killOrder(s); err != nil {
		return err
	}
	if err := t.label(s); err != nil {
		return err
	}
	s.Add("prctl", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	if err := t.limits(s); err != nil {
		return err
	}
	s.addPlace(in.Place)
	for _, fd := range in.namespaces {
		s.Add("setns", unix.SYS_SETNS, fd, 0)
	}
	c := in.credentials
	s.Add("umask", unix.SYS_UMASK, uintptr(c.Umask))
	s.addGroups(c.Groups)
	// Where a change of ids takes capabilities away, they are kept permitted and taken back.
	s.Add("prctl", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0)
	s.last().ignored = true
	s.Add("setresgid", unix.SYS_SETRESGID, uintptr(c.GIDs.Real), uintptr(c.GIDs.Effective), uintptr(c.GIDs.Saved))
	s.Add("setresuid", unix.SYS_SETRESUID, uintptr(c.UIDs.Real), uintptr(c.UIDs.Effective), uintptr(c.UIDs.Saved))
	own, err := linux.ThreadCapabilities()
	if err != nil {
		return err
	}
	permitted := Capabilities(own.Permitted)
	s.SetCapabilities(permitted, permitted, 0)
	s.Add("setns to the user namespace", unix.SYS_SETNS, in.user, unix.CLONE_NEWUSER)
	return nil
}

// text is a captured part that is text.
func (t *Target) text(part capture.Part) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, err := t.borrow(part)
	if err != nil {
		return "", err
	}
	return string(h.text), nil
}

// killOrder gives the process the target's place in the order of the kernel's OOM killer, instead of this process's.
func (t *Target) killOrder(s *Steps) error {
	text, err := t.text(capture.PartOOMScoreAdj)
	if err != nil {
		return err
	}
	// The file belongs to the process's user while it is dumpable (proc_pid_oom_score_adj(5)), else to root.
	s.Add("prctl", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	file := s.Add("oom_score_adj", unix.SYS_OPENAT, unix.AT_FDCWD, "/proc/self/oom_score_adj", unix.O_WRONLY, 0)
	s.last().ignored = true
	// First 0, for a target with a value that this process may not set: plugins have a higher one than most programs.
	for _, score := range []string{"0", strings.TrimSpace(text)} {
		s.Add("oom_score_adj", unix.SYS_WRITE, file, score, len(score))
		s.last().ignored = true
	}
	return nil
}

// label has the program get the target's label of a security module. Where that is refused, the program does not
// start: it would be confined less than the target.
func (t *Target) label(s *Steps) error {
	label, err := t.text(capture.PartExecLabel)
	if err != nil || label == "" {
		return err
	}
	path := "/proc/thread-self/attr/exec"
	if strings.HasPrefix(label, "exec ") && exists(apparmorExec) {
		path = apparmorExec
	}
	file := s.Add(path, unix.SYS_OPENAT, unix.AT_FDCWD, path, unix.O_WRONLY, 0)
	s.Add(path, unix.SYS_WRITE, file, label, len(label))
	return nil
}

const apparmorExec = "/proc/thread-self/attr/apparmor/exec"

func exists(path string) bool { return unix.Access(path, unix.F_OK) == nil }

// limitNames are the lines of /proc/PID/limits (proc_pid_limits(5)).
var limitNames = map[string]int{
	"Max cpu time": unix.RLIMIT_CPU, "Max file size": unix.RLIMIT_FSIZE, "Max data size": unix.RLIMIT_DATA, "Max stack size": unix.RLIMIT_STACK,
	"Max core file size": unix.RLIMIT_CORE, "Max processes": unix.RLIMIT_NPROC, "Max open files": unix.RLIMIT_NOFILE,
	"Max locked memory": unix.RLIMIT_MEMLOCK, "Max address space": unix.RLIMIT_AS, "Max file locks": unix.RLIMIT_LOCKS,
	"Max pending signals": unix.RLIMIT_SIGPENDING, "Max msgqueue size": unix.RLIMIT_MSGQUEUE, "Max nice priority": unix.RLIMIT_NICE,
	"Max realtime priority": unix.RLIMIT_RTPRIO,
}

// limits gives the process the target's limits where they are lower than its own.
func (t *Target) limits(s *Steps) error {
	text, err := t.text(capture.PartLimits)
	if err != nil {
		return err
	}
	for resource, theirs := range parseLimits(text) {
		var own unix.Rlimit
		if err := unix.Getrlimit(resource, &own); err != nil {
			return fmt.Errorf("getrlimit: %w", err)
		}
		limit := &unix.Rlimit{Max: min(theirs.Max, own.Max)}
		limit.Cur = min(theirs.Cur, limit.Max)
		s.Keep(limit)
		s.Add("prlimit", unix.SYS_PRLIMIT64, 0, resource, unsafe.Pointer(limit), 0)
	}
	return nil
}

// parseLimits reads /proc/PID/limits.
func parseLimits(text string) map[int]unix.Rlimit {
	limits := map[int]unix.Rlimit{}
	for line := range strings.Lines(text) {
		for name, resource := range limitNames {
			rest, ok := strings.CutPrefix(line, name+" ")
			fields := strings.Fields(rest)
			if !ok || len(fields) < 2 {
				continue
			}
			soft, softErr := parseLimit(fields[0])
			hard, hardErr := parseLimit(fields[1])
			if softErr == nil && hardErr == nil {
				limits[resource] = unix.Rlimit{Cur: soft, Max: hard}
			}
		}
	}
	return limits
}

func parseLimit(text string) (uint64, error) {
	if text == "unlimited" {
		return unix.RLIM_INFINITY, nil
	}
	return strconv.ParseUint(text, 10, 64)
}

// execute adds the steps of the program's own process, forks and waits until the program is there.
func (s *Steps) execute(ctx context.Context, in *inside, input int, program Program) (*Process, error) {
	if err := turns.await(ctx, in.namespace); err != nil {
		return nil, err
	}
	leave, err := helpers.enter(ctx, in.namespace)
	if err != nil {
		return nil, err
	}
	var run *running
	forked := make(chan struct{})
	// Not on the caller's thread: the program would have the processors of that for good.
	go func() {
		defer close(forked)
		run, err = s.start(func() { s.becomeProgram(in.credentials.Effective, input, program) })
	}()
	<-forked
	if err != nil {
		leave()
		return nil, err
	}
	_, received := run.receive(ctx)
	cancelled := ctx.Err()
	type outcome struct {
		process *Process
		err     error
	}
	ended := make(chan outcome, 1)
	started := &Process{pidfd: -1, user: in.user, namespace: in.namespace}
	in.user = -1 // it belongs to the process now
	go func() {
		err := run.program(started, received, cancelled)
		run.free()
		leave() // to kill the program takes a helper process too
		if err != nil {
			started.end()
		}
		ended <- outcome{started, err}
	}()
	if cancelled != nil {
		return nil, cancelled
	}
	o := <-ended
	if o.err != nil {
		return nil, o.err
	}
	return o.process, nil
}

// program waits for the forked process and takes over what that forked: the program, or what failed to become it. With
// an error the process may be there too.
func (r *running) program(p *Process, received, cancelled error) error {
	failure := r.wait()
	p.pid = int(r.report.pid)
	switch {
	case failure != nil:
		return failure
	case cancelled != nil:
		return cancelled
	case received != nil && received != io.EOF:
		return received
	case p.pid == 0:
		return errors.New("the helper process ended without a program")
	}
	p.pidfd, failure = unix.PidfdOpen(p.pid, 0)
	return failure
}

// end kills a program that nobody wants any more, if there is one, and waits for its end. It has the target's ids
// already: without its user namespace this process may not kill it.
func (p *Process) end() {
	if p.pid != 0 {
		if err := p.Kill(context.Background()); err != nil {
			unix.Kill(p.pid, unix.SIGKILL)
		}
		for {
			if _, err := unix.Wait4(p.pid, nil, unix.WALL, nil); err != unix.EINTR {
				break
			}
		}
	}
	closeAll(&p.pidfd, &p.user)
}

// becomeProgram adds the steps from the fork into the pid namespace on. CLONE_PARENT makes the program this process's
// child.
func (s *Steps) becomeProgram(capabilities Capabilities, input int, program Program) {
	s.Add("clone", unix.SYS_CLONE, uintptr(unix.CLONE_PARENT|unix.CLONE_PARENT_SETTID|int(unix.SIGCHLD)), 0, unsafe.Pointer(&s.report.pid), 0, 0)
	s.last().branch = true
	s.Add("setsid", unix.SYS_SETSID)
	// They may be among the three themselves.
	in := s.Add("standard input", unix.SYS_FCNTL, input, unix.F_DUPFD, 3)
	out := s.Add("standard output", unix.SYS_FCNTL, program.Output, unix.F_DUPFD, 3)
	s.Add("standard input", unix.SYS_DUP3, in, 0, 0)
	s.Add("standard output", unix.SYS_DUP3, out, 1, 0)
	s.Add("standard error", unix.SYS_DUP3, out, 2, 0)
	s.closeAllBut(0, 1, 2)
	s.dropTo(capabilities)
	s.resetSignals()
	argv, envv := s.pointers(program.Args), s.pointers(program.Env)
	for i, path := range program.Paths {
		s.Add(StepExecute, unix.SYS_EXECVE, path, argv, envv)
		s.last().orElse = i < len(program.Paths)-1
	}
}

// dropTo leaves the process these capabilities alone, which survive the execution of a program, and no way to others.
func (s *Steps) dropTo(capabilities Capabilities) {
	for number := range capabilityNames {
		if !capabilities.Has(Capability(number)) {
			s.Add("prctl", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, number, 0, 0, 0)
			s.last().ignored = true // newer than the kernel
		}
	}
	s.SetCapabilities(capabilities, capabilities, capabilities)
	for number := range capabilityNames {
		if capabilities.Has(Capability(number)) {
			s.Add("prctl", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, number, 0, 0)
		}
	}
	s.Add("no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// resetSignals gives all signals their default action, and lets them in.
func (s *Steps) resetSignals() {
	action := &[32]byte{} // struct sigaction of the kernel: SIG_DFL is 0
	mask := new(uint64)
	s.Keep(action)
	s.Keep(mask)
	for signal := 1; signal <= 64; signal++ {
		if signal != int(unix.SIGKILL) && signal != int(unix.SIGSTOP) {
			s.Add("sigaction", unix.SYS_RT_SIGACTION, signal, unsafe.Pointer(action), 0, 8)
		}
	}
	s.Add("sigprocmask", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, unsafe.Pointer(mask), 0, 8)
}

// Pidfd is a pidfd of the program: it is readable when the program has ended. It belongs to the Process.
func (p *Process) Pidfd() int { return p.pidfd }

// ExitCode is that of a program that has ended: 128 and the signal's number for one that was killed.
func (p *Process) ExitCode() (int, error) {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, p.pid, &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
	if err != nil {
		return 0, fmt.Errorf("waitid: %w", err)
	}
	// siginfo_t of SIGCHLD (sigaction(2)): si_pid, si_uid and si_status follow the common fields.
	status := int(*(*int32)(unsafe.Add(unsafe.Pointer(&info), 24)))
	if info.Code != 1 { // CLD_EXITED
		status += 128
	}
	return status, nil
}

// Kill kills the program and what it started, as far as that did not leave its process group. It is not for after
// Close.
//
// This process needs no CAP_KILL, which would reach every process of the host: what sends the signal has joined the
// program's user namespace, and has the capability there.
func (p *Process) Kill(ctx context.Context) error {
	s := &Steps{}
	s.KeepOpen(p.user)
	s.Add("setns to the user namespace", unix.SYS_SETNS, p.user, unix.CLONE_NEWUSER)
	// First the program, which may not lead its group yet, and then starts nothing more.
	s.Add("kill", unix.SYS_KILL, p.pid, int(unix.SIGKILL))
	s.Add("kill the group", unix.SYS_KILL, -p.pid, int(unix.SIGKILL))
	s.last().ignored = true
	return s.run(ctx, p.namespace)
}

// Close waits for the program's end and releases it. A second Close does nothing.
func (p *Process) Close() {
	if p.pidfd < 0 {
		return
	}
	for {
		if _, err := unix.Wait4(p.pid, nil, unix.WALL, nil); err != unix.EINTR {
			break
		}
	}
	closeAll(&p.pidfd, &p.user)
}
