package attacks

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

// container is one of `intercede run`, whose calls the daemon answers. Its root has the attackers' programs alone.
type container struct {
	daemon *daemon
	root   string
	flags  []string // of run
}

// container makes the root of a container, with flags of run.
func (d *daemon) container(flags ...string) *container {
	d.attack.Helper()
	root, err := os.MkdirTemp(d.dir, "root")
	if err != nil {
		d.attack.Fatal(err)
	}
	c := &container{d, root, append([]string{"--socket", d.socket(), "--rootfs", root}, flags...)}
	if err := errors.Join(os.Chmod(root, 0o755), os.Mkdir(filepath.Join(root, "bin"), 0o755)); err != nil {
		d.attack.Fatal(err)
	}
	return c
}

// run runs an attacker's program to its end and gives what it printed. It fails the test if the program fails.
func (c *container) run(program string, args ...string) string {
	c.daemon.attack.Helper()
	p := c.start(program, args...)
	return p.wait()
}

// process is a program that runs in a container.
type process struct {
	attack *attack
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr bytes.Buffer
	exited chan struct{}
}

// start starts an attacker's program in the container. It ends with the test.
func (c *container) start(program string, args ...string) *process {
	c.daemon.attack.Helper()
	return c.daemon.attack.start(c.command(program, args...))
}

func (c *container) command(program string, args ...string) *exec.Cmd {
	c.daemon.attack.Helper()
	if err := install(attacker(program), filepath.Join(c.root, "bin", program)); err != nil {
		c.daemon.attack.Fatal(err)
	}
	return c.daemon.command("run", append(append(c.flags, "--", "/bin/"+program), args...)...)
}

func install(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(to, text, 0o755), os.Chmod(to, 0o755))
}

// start starts a command with pipes, but for an input that it has.
func (a *attack) start(cmd *exec.Cmd) *process {
	a.Helper()
	p := &process{attack: a, cmd: cmd, exited: make(chan struct{})}
	cmd.Stderr = &p.stderr
	out, outEnd, err := os.Pipe()
	if err != nil {
		a.Fatal(err)
	}
	cmd.Stdout, p.out = outEnd, bufio.NewReader(out)
	if cmd.Stdin == nil {
		if p.in, err = cmd.StdinPipe(); err != nil {
			a.Fatal(err)
		}
	}
	endWithTests(cmd)
	err = cmd.Start()
	outEnd.Close()
	if err != nil {
		out.Close()
		a.Fatal(err)
	}
	go func() {
		cmd.Wait()
		close(p.exited)
	}()
	a.Cleanup(func() {
		p.kill()
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

// kill ends the process, and the container that it may be.
func (p *process) kill() {
	if p.in != nil {
		p.in.Close()
	}
	p.cmd.Process.Kill()
	<-p.exited
}

// wait waits for the end and gives what was printed. It fails the test if the status is not 0.
func (p *process) wait() string {
	p.attack.Helper()
	text, err := io.ReadAll(p.out)
	<-p.exited
	if err != nil || !p.cmd.ProcessState.Success() {
		p.attack.Fatalf("%s: %v, %v: %s%s", strings.Join(p.cmd.Args, " "), err, p.cmd.ProcessState, text, &p.stderr)
	}
	return string(text)
}

// line waits for the next line that is printed.
func (p *process) line() string {
	p.attack.Helper()
	line, err := p.tryLine(patience)
	if err != nil {
		p.attack.Fatalf("%s: %v: %s%s", strings.Join(p.cmd.Args, " "), err, line, &p.stderr)
	}
	return line
}

func (p *process) tryLine(limit time.Duration) (string, error) {
	type read struct {
		line string
		err  error
	}
	done := make(chan read, 1)
	go func() {
		line, err := p.out.ReadString('\n')
		done <- read{strings.TrimSuffix(line, "\n"), err}
	}()
	select {
	case r := <-done:
		return r.line, r.err
	case <-time.After(limit):
		return "", errors.New("nothing is printed")
	}
}
