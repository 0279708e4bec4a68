package caller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/run"
	"golang.org/x/sys/unix"
)

// wordsMax bounds what of a command's standard error is shown.
const wordsMax = 4096

// Supervisor answers the notifications of containers.
type Supervisor interface {
	// Attach takes the listener over, also when it fails.
	Attach(ctx context.Context, listener *os.File, claim container.Claim) error
	// Close ends it.
	Close()
}

// Caller is a container whose command is [Serve], or a process outside of any.
type Caller struct {
	process interface {
		Wait() (status int, err error)
		Close() error
	}
	requests *os.File
	answers  *os.File
	decoder  *json.Decoder
	words    *os.File // standard error
}

// Start starts a container in which this program, with the arguments of options, calls [Serve]. The program is the
// running one, wherever it lies, and its container has the host's files. A supervisor is needed if there is a filter.
func Start(ctx context.Context, options run.Options, supervisor Supervisor) (*Caller, error) {
	c := &Caller{}
	var started *run.Container
	err := c.start(func(stdin, stdout, stderr *os.File) (err error) {
		options.Stdin, options.Stdout, options.Stderr = stdin, stdout, stderr
		// The container's init is this program, and executes it again.
		options.Args = append([]string{"/proc/self/exe"}, options.Args...)
		options.Env = append(options.Env, environment...)
		if started, err = run.Start(ctx, options); err == nil {
			c.process = started
		}
		return err
	})
	if err == nil && len(options.Filter) > 0 {
		claim := container.Claim{
			ID: started.ID(), Runtime: "run", CgroupsPath: run.CgroupsPath(started.ID()), PID: started.InitPID(),
		}
		err = supervisor.Attach(ctx, started.Listener(), claim)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// environment has no signal of the Go runtime interrupt a call, and its collector not wait for the end of one.
var environment = []string{"GODEBUG=asyncpreemptoff=1", "GOGC=off"}

// StartNative starts a process with the same arguments as root of the host, in a mount namespace of its own. It ends
// when its input does, and so with this process.
func StartNative(ctx context.Context, args []string) (*Caller, error) {
	c := &Caller{}
	err := c.start(func(stdin, stdout, stderr *os.File) error {
		command := exec.CommandContext(ctx, "/proc/self/exe", args...)
		command.Stdin, command.Stdout, command.Stderr = stdin, stdout, stderr
		command.Env = append(os.Environ(), environment...)
		command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
		if err := command.Start(); err != nil {
			return err
		}
		c.process = native{command}
		return nil
	})
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// native is a process outside of containers.
type native struct {
	command *exec.Cmd
}

func (n native) Wait() (int, error) {
	n.command.Wait()
	return n.command.ProcessState.ExitCode(), nil
}

func (n native) Close() error {
	n.command.Process.Kill()
	n.command.Wait()
	return nil
}

// start makes the pipes, and has the process started that they are for.
func (c *Caller) start(process func(stdin, stdout, stderr *os.File) error) error {
	stdin, requests, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stdin.Close()
	c.requests = requests
	answers, stdout, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stdout.Close()
	c.answers, c.decoder = answers, json.NewDecoder(answers)
	words, err := unix.MemfdCreate("stderr", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("memfd_create: %w", err)
	}
	c.words = os.NewFile(uintptr(words), "stderr")

	return process(stdin, stdout, c.words)
}

// Show asks what comes of a call.
func (c *Caller) Show(ctx context.Context, call string) (string, error) {
	got, err := c.ask(ctx, request{Call: call})
	return got.Shown, err
}

// Measure asks how long each of n calls takes, with a pause before each. The errno is the first failed call's, 0 if all
// succeeded.
func (c *Caller) Measure(ctx context.Context, call string, n int, pause time.Duration) (Durations, syscall.Errno, error) {
	got, err := c.ask(ctx, request{Call: call, Times: n, Pause: pause})
	if err == nil && len(got.Durations) != n {
		err = fmt.Errorf("%s: %d durations of %d calls", call, len(got.Durations), n)
	}
	return got.Durations, got.Errno, err
}

// Rate asks how many calls a second so many threads make together.
func (c *Caller) Rate(ctx context.Context, call string, threads int, during time.Duration) (float64, error) {
	got, err := c.ask(ctx, request{Call: call, Threads: threads, For: during})
	if err != nil {
		return 0, err
	}
	return float64(got.Made) / got.Elapsed.Seconds(), nil
}

// KeepMaking has so many threads make the call until the container ends.
func (c *Caller) KeepMaking(ctx context.Context, call string, threads int) error {
	_, err := c.ask(ctx, request{Call: call, Threads: threads})
	return err
}

// ask is ended by the end of the context that Start was given, which kills the container.
func (c *Caller) ask(ctx context.Context, asked request) (answer, error) {
	// A command that has ended is noticed by its missing answer.
	if err := json.NewEncoder(c.requests).Encode(asked); err != nil && !errors.Is(err, unix.EPIPE) {
		return answer{}, fmt.Errorf("ask the program in the container: %w", err)
	}
	var got answer
	if err := c.decoder.Decode(&got); err != nil {
		if ctx.Err() != nil {
			return answer{}, context.Cause(ctx)
		}
		return answer{}, c.explain(err)
	}
	if got.Error != "" {
		return answer{}, fmt.Errorf("%s in the container: %s", asked.Call, got.Error)
	}
	return got, nil
}

// explain is for an answer that did not come.
func (c *Caller) explain(err error) error {
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("the answer of the program in the container: %w", err)
	}
	status, err := c.process.Wait()
	if err != nil {
		return err
	}
	words, _ := io.ReadAll(io.NewSectionReader(c.words, 0, wordsMax))
	return fmt.Errorf("the program in the container ended with status %d: %s", status, strings.TrimSpace(strings.ToValidUTF8(string(words), "?")))
}

// Close ends the container.
func (c *Caller) Close() error {
	var err error
	if c.process != nil {
		err = c.process.Close()
	}
	for _, file := range []*os.File{c.requests, c.answers, c.words} {
		if file != nil {
			file.Close()
		}
	}
	return err
}
