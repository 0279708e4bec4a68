package sdktest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Result is what became of a program in a container.
type Result struct {
	ExitCode int            // -1: killed by Signal
	Signal   syscall.Signal // 0: it exited
	Stdout   string
	Stderr   string
	Calls    []Record // the calls that were notified, in the order of their answers
}

// Kinds are how the calls were answered: "value errno".
func (r Result) Kinds() string {
	var all []string
	for _, c := range r.Calls {
		all = append(all, string(c.Outcome.Kind))
	}
	return strings.Join(all, " ")
}

// Process is a program that runs in a container.
type Process struct {
	PID int // in this process's pid namespace

	container      *Container
	socket         int
	pidfd          int
	stdout, stderr *os.File
	calls          *recorder
	end            *report
}

// Run runs a program of the container, linked statically unless the rootfs has its libraries, as the container's root
// with the filter loaded, and waits for its end. What it leaves running is killed at the end of the test.
func (c *Container) Run(t testing.TB, path string, args ...string) Result {
	t.Helper()
	return c.Start(t, path, args...).Wait(t)
}

// Start starts a program like Run, and does not wait.
func (c *Container) Start(t testing.TB, path string, args ...string) *Process {
	t.Helper()
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatalf("sdktest: %v", err)
	}
	defer stdin.Close()
	stdout, stderr := memoryFile(t, "stdout"), memoryFile(t, "stderr")
	p, err := c.startProgram(order{Path: path, Args: args, Filter: c.filter}, [3]*os.File{stdin, stdout, stderr})
	if err != nil {
		t.Fatalf("sdktest: start %s: %v", path, err)
	}
	t.Cleanup(p.close)
	p.stdout, p.stderr = stdout, stderr
	if err := p.await(); err != nil {
		t.Fatalf("sdktest: start %s: %v", path, err)
	}
	return p
}

// memoryFile takes a program's output: it is all there at the program's end, whoever else still has it open. Without
// O_APPEND threads that write at the same time would overwrite each other's: the kernel does not lock a memfd's
// position.
func memoryFile(t testing.TB, name string) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatalf("sdktest: memfd_create: %v", err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_APPEND); err != nil {
		t.Fatalf("sdktest: F_SETFL: %v", err)
	}
	file := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { file.Close() })
	return file
}

// await waits until the program has its filter, or is about to be executed where there is none.
func (p *Process) await() error {
	p.pidfd = -1
	for p.PID == 0 || p.container.broker != nil && p.calls == nil {
		var r report
		fds, err := receive(p.socket, &r)
		if err != nil {
			return fmt.Errorf("its stage: %w", err)
		}
		switch r.Event {
		case started:
			p.pidfd = fds[0]
			if p.PID, err = pidOf(p.pidfd); err != nil {
				return err
			}
		case filtered:
			p.calls = p.container.serve(fds[0])
		case broken:
			return errors.New(r.Error)
		case exited:
			return fmt.Errorf("its stage exited with %d", r.Code)
		}
	}
	return nil
}

// pidOf is the pid of a pidfd in this process's pid namespace, from its fdinfo (proc_pid_fdinfo(5)).
func pidOf(pidfd int) (int, error) {
	name := fmt.Sprintf("/proc/self/fdinfo/%d", pidfd)
	info, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(info)) {
		var pid int
		if n, _ := fmt.Sscanf(line, "Pid: %d", &pid); n == 1 {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("%s: no line Pid", name)
}

// Kill kills the program.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	if err := unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		t.Fatalf("sdktest: kill: %v", err)
	}
}

// Calls are the program's answered calls so far.
func (p *Process) Calls() []Record {
	if p.calls == nil {
		return nil
	}
	return p.calls.all()
}

// Wait waits for the program's end. It fails the test if the program could not be executed.
func (p *Process) Wait(t testing.TB) Result {
	t.Helper()
	for p.end == nil {
		var r report
		if _, err := receive(p.socket, &r); err != nil {
			t.Fatalf("sdktest: waiting for a program: %v", err)
		}
		switch r.Event {
		case broken:
			t.Fatalf("sdktest: %s", r.Error)
		case exited:
			p.end = &r
		}
	}
	return Result{
		ExitCode: p.end.Code, Signal: p.end.Signal,
		Stdout: contents(t, p.stdout), Stderr: contents(t, p.stderr),
		Calls: p.Calls(),
	}
}

func contents(t testing.TB, file *os.File) string {
	t.Helper()
	text, err := io.ReadAll(io.NewSectionReader(file, 0, 1<<30))
	if err != nil {
		t.Fatalf("sdktest: %v", err)
	}
	return string(text)
}

func (p *Process) close() {
	unix.Close(p.socket)
	if p.pidfd >= 0 {
		unix.Close(p.pidfd)
	}
}
