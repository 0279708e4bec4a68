package stage

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Container is one of `intercede run`, whose calls the daemon answers. Its root has programs of testdata alone.
type Container struct {
	daemon *Daemon
	Root   string
	flags  []string // of run
}

// Container makes the root of a container, with flags of run.
func (d *Daemon) Container(flags ...string) *Container {
	d.test.Helper()
	closed, err := os.MkdirTemp(d.dir, "root") // users of the host must not reach what a container's root makes
	if err != nil {
		d.test.Fatal(err)
	}
	root := filepath.Join(closed, "root")
	c := &Container{d, root, append([]string{"--socket", d.Socket(), "--rootfs", root}, flags...)}
	if err := os.MkdirAll(filepath.Join(root, "bin"), 0o755); err != nil {
		d.test.Fatal(err)
	}
	return c
}

// Run runs a program of testdata to its end and gives what it printed. It fails the test if the program fails.
func (c *Container) Run(program string, args ...string) string {
	c.daemon.test.Helper()
	p := c.Start(program, args...)
	return p.Wait()
}

// Process is a program that runs in a container.
type Process struct {
	test   *Test
	cmd    *exec.Cmd
	In     io.WriteCloser
	Out    *bufio.Reader
	Stderr bytes.Buffer
	exited chan struct{}
}

// Start starts a program of testdata in the container. It ends with the test.
func (c *Container) Start(program string, args ...string) *Process {
	c.daemon.test.Helper()
	return c.daemon.test.Start(c.Command(program, args...))
}

// Command is the command line that runs a program of testdata in the container.
func (c *Container) Command(program string, args ...string) *exec.Cmd {
	c.daemon.test.Helper()
	if err := install(Program(program), filepath.Join(c.Root, "bin", program)); err != nil {
		c.daemon.test.Fatal(err)
	}
	return c.daemon.Command("run", append(append(c.flags, "--", "/bin/"+program), args...)...)
}

// install copies a program, and gives the copy its name at last: another program of that name may run.
func install(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	next := to + ".next"
	return errors.Join(os.WriteFile(next, text, 0o755), os.Chmod(next, 0o755), os.Rename(next, to))
}

// Start starts a command with pipes, but for an input that it has.
func (t *Test) Start(cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{test: t, cmd: cmd, exited: make(chan struct{})}
	cmd.Stderr = &p.Stderr
	out, outEnd, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, p.Out = outEnd, bufio.NewReader(out)
	if cmd.Stdin == nil {
		if p.In, err = cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
	}
	endWithTests(cmd)
	err = cmd.Start()
	outEnd.Close()
	if err != nil {
		out.Close()
		t.Fatal(err)
	}
	go func() {
		cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.Kill()
		out.Close()
	})
	return p
}

// endWithTests has the kernel kill the process when the tests are killed, which clean up nothing then.
func endWithTests(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}

// Kill ends the process, and the container that it may be.
func (p *Process) Kill() {
	if p.In != nil {
		p.In.Close()
	}
	p.cmd.Process.Kill()
	<-p.exited
}

// Wait waits for the end and gives what was printed. It fails the test if the status is not 0.
func (p *Process) Wait() string {
	p.test.Helper()
	text, err := io.ReadAll(p.Out)
	<-p.exited
	if err != nil || !p.cmd.ProcessState.Success() {
		p.test.Fatalf("%s: %v, %v: %s%s", strings.Join(p.cmd.Args, " "), err, p.cmd.ProcessState, text, &p.Stderr)
	}
	return string(text)
}

// Line waits for the next line that is printed.
func (p *Process) Line() string {
	p.test.Helper()
	line, err := p.TryLine(Patience)
	if err != nil {
		p.test.Fatalf("%s: %v: %s%s", strings.Join(p.cmd.Args, " "), err, line, &p.Stderr)
	}
	return line
}

// TryLine is Line with a limit. The error says that nothing was printed, or is io.EOF.
func (p *Process) TryLine(limit time.Duration) (string, error) {
	type read struct {
		line string
		err  error
	}
	done := make(chan read, 1)
	go func() {
		line, err := p.Out.ReadString('\n')
		done <- read{strings.TrimSuffix(line, "\n"), err}
	}()
	select {
	case r := <-done:
		return r.line, r.err
	case <-time.After(limit):
		return "", errors.New("nothing is printed")
	}
}
