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

// patience is how long the program may take beside waiting for results. A plugin that takes calls of its own can keep
// it from answering.
const patience = time.Minute

// memory is what the container may use, in bytes: nobody knows what the calls lead to.
const memory = 1 << 30

// wordsMax bounds what of the program's standard error is shown, in bytes.
const wordsMax = 4096

// Container is a container whose command is the program. One goroutine may use it at a time.
type Container struct {
	container *run.Container
	requests  *os.File
	answers   *os.File
	decoder   *json.Decoder
	words     *os.File // standard error
	limit     time.Duration
}

// Start starts a container with the filter. attach is to take its listener over. The limit is for each call: what
// takes longer is not waited for.
func Start(ctx context.Context, filter []unix.SockFilter, limit time.Duration, attach func(*run.Container) error) (*Container, error) {
	c := &Container{limit: limit}
	if err := c.start(ctx, filter); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if err := attach(c.container); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Container) start(ctx context.Context, filter []unix.SockFilter) error {
	if os.Getenv(startedEnv) != "" {
		return errors.New("this process was started as the caller, and its main does not call caller.Init")
	}
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
		Args: []string{"/proc/self/exe", programName}, Env: environment, Filter: filter, Memory: memory,
		Stdin: stdin, Stdout: stdout, Stderr: c.words,
	})
	return err
}

// Calls has the calls made, one after the other.
func (c *Container) Calls(calls ...Call) ([]Result, error) {
	return c.ask(request{Do: doCalls, Calls: calls})
}

// Nested has the calls made by root of a user namespace that lies in the container's.
func (c *Container) Nested(calls ...Call) ([]Result, error) {
	return c.ask(request{Do: doNested, Calls: calls})
}

// Threads has so many threads make the call at the same time. There are fewer results if one has none.
func (c *Container) Threads(call Call, threads int) ([]Result, error) {
	return c.ask(request{Do: doThreads, Calls: []Call{call}, Times: threads})
}

// Kill has children make the call, one after the other, each of which is killed so long after it has begun.
func (c *Container) Kill(call Call, delays []time.Duration) error {
	_, err := c.ask(request{Do: doKill, Calls: []Call{call}, Delays: delays})
	return err
}

// Prepare starts a child that is to make the call, and nothing else, when Release or Park says so.
func (c *Container) Prepare(call Call) error {
	_, err := c.ask(request{Do: doPrepare, Calls: []Call{call}})
	return err
}

// Release has that child make the call, and returns the result.
func (c *Container) Release() (Result, error) {
	results, err := c.ask(request{Do: doRelease})
	if err != nil {
		return Result{}, err
	}
	return results[0], nil
}

// Park has that child make the call, and returns when it waits for the result.
func (c *Container) Park(call Call) error {
	_, err := c.ask(request{Do: doPark, Calls: []Call{call}})
	return err
}

// Unpark kills that child.
func (c *Container) Unpark() error {
	_, err := c.ask(request{Do: doUnpark})
	return err
}

// CheckCompat returns why there can be no 32-bit callers here; nil: there can.
func (c *Container) CheckCompat() error {
	results, err := c.Calls(Call{Name: "getpid", Number: getpid32, Compat: true})
	if err == nil && results[0].Ended != "" {
		err = fmt.Errorf("this machine has no 32-bit callers: %s", results[0].Ended)
	}
	return err
}

func (c *Container) ask(asked request) ([]Result, error) {
	asked.Limit = c.limit
	// A program that has ended is noticed by its missing answer.
	if err := json.NewEncoder(c.requests).Encode(asked); err != nil && !errors.Is(err, unix.EPIPE) {
		return nil, fmt.Errorf("ask the caller: %w", err)
	}
	var got answer
	c.answers.SetReadDeadline(time.Now().Add(patience + 6*c.limit))
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
	if !errors.Is(err, io.EOF) {
		c.container.Close() // it may be in the midst of an answer
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
