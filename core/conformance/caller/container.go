package caller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/intercede/intercede/core/run"
	"golang.org/x/sys/unix"
)

// ErrHangs means that a call had no result for long after every plugin's deadline: the container is of no use any more.
var ErrHangs = errors.New("a call has no result")

// wordsMax bounds what of the program's standard error is shown, in bytes.
const wordsMax = 4096

// Container is a container whose command is the program. One goroutine may use it at a time.
type Container struct {
	container *run.Container
	requests  *os.File
	answers   *os.File
	decoder   *json.Decoder
	words     *os.File // standard error
	patience  time.Duration
}

// Start starts a container with the filter. attach is to take its listener over. What the container is asked for may
// take as long as patience.
func Start(ctx context.Context, filter []unix.SockFilter, patience time.Duration, attach func(*run.Container) error) (*Container, error) {
	c := &Container{patience: patience}
	if err := c.start(ctx, filter); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if err := attach(c.container); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Container) start(ctx context.Context, filter []unix.SockFilter) error {
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
	c.container, err = run.Start(ctx, run.Options{
		// The container's init is this program, and executes it again.
		Args: []string{"/proc/self/exe", programName}, Env: environment, Filter: filter,
		Stdin: stdin, Stdout: stdout, Stderr: c.words,
	})
	return err
}

// Threads has so many threads make the call at the same time.
func (c *Container) Threads(call Call, threads int) ([]Result, error) {
	return c.ask(request{Do: doThreads, Call: call, Times: threads})
}

// Call has a thread make the call.
func (c *Container) Call(call Call) (Result, error) { return only(c.Threads(call, 1)) }

// Child has a child make the call.
func (c *Container) Child(call Call) (Result, error) {
	return only(c.ask(request{Do: doChild, Call: call}))
}

// Nested has a child make the call that is root of a user namespace of its own, which lies in the container's.
func (c *Container) Nested(call Call) (Result, error) {
	return only(c.ask(request{Do: doNested, Call: call}))
}

// Kill has children make the call, one after the other, each of which is killed so long after it has begun.
func (c *Container) Kill(call Call, delays []time.Duration) error {
	_, err := c.ask(request{Do: doKill, Call: call, Delays: delays})
	return err
}

// Park has a child make the call, and returns when it waits for the result. Unpark kills it.
func (c *Container) Park(call Call) error {
	_, err := c.ask(request{Do: doPark, Call: call})
	return err
}

// Unpark kills the child that Park has left in its call.
func (c *Container) Unpark() error {
	_, err := c.ask(request{Do: doUnpark})
	return err
}

// CheckCompat returns why there can be no 32-bit callers here; nil: there can.
func (c *Container) CheckCompat() error {
	_, err := c.Child(Call{Name: "getpid", Number: getpid32, Compat: true})
	if err != nil {
		return fmt.Errorf("the machine has no 32-bit callers: %w", err)
	}
	return nil
}

func only(results []Result, err error) (Result, error) {
	if err != nil {
		return Result{}, err
	}
	return results[0], nil
}

func (c *Container) ask(asked request) ([]Result, error) {
	// A program that has ended is noticed by its missing answer.
	if err := json.NewEncoder(c.requests).Encode(asked); err != nil && !errors.Is(err, unix.EPIPE) {
		return nil, fmt.Errorf("ask the caller: %w", err)
	}
	var got answer
	c.answers.SetReadDeadline(time.Now().Add(c.patience))
	if err := c.decoder.Decode(&got); err != nil {
		return nil, c.explain(err)
	}
	if got.Error != "" {
		return nil, errors.New(got.Error)
	}
	return got.Results, nil
}

// explain is for an answer that did not come.
func (c *Container) explain(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w after %v", ErrHangs, c.patience)
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("the answer of the caller: %w", err)
	}
	status, err := c.container.Wait()
	if err != nil {
		return err
	}
	words, _ := io.ReadAll(io.NewSectionReader(c.words, 0, wordsMax))
	return fmt.Errorf("the caller ended with status %d: %s", status, strings.TrimSpace(strings.ToValidUTF8(string(words), "?")))
}

// Close ends the container.
func (c *Container) Close() error {
	var err error
	if c.container != nil {
		err = c.container.Close()
	}
	for _, file := range []*os.File{c.requests, c.answers, c.words} {
		if file != nil {
			file.Close()
		}
	}
	return err
}
