// Package caller is a program in a container that makes system calls when it is asked to, and says what came of them
// and how long each took.
//
// It has two sides: [Serve] is the container's command, [Start] runs it there. They speak JSON over the command's
// standard input and output, one value for a question and one for its answer.
package caller

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// request asks for a call to be shown, to be made some times, or by several threads at once.
type request struct {
	Call    string        `json:"call"`
	Times   int           `json:"times,omitempty"`
	Pause   time.Duration `json:"pause,omitempty"` // before each of them
	Threads int           `json:"threads,omitempty"`
	For     time.Duration `json:"for,omitempty"` // with Threads; 0: as long as the program runs, and the answer comes at once
}

// answer is what came of it.
type answer struct {
	Shown     string        `json:"shown,omitempty"`
	Durations Durations     `json:"durations,omitempty"`
	Made      int64         `json:"made,omitempty"`    // calls of all threads
	Elapsed   time.Duration `json:"elapsed,omitempty"` // while they were made
	Errno     syscall.Errno `json:"errno,omitempty"`   // of the first call that failed
	Error     string        `json:"error,omitempty"`   // nothing else is to be believed then
}

// Serve answers requests for the named calls, until in ends. All calls are made by one thread.
func Serve(in io.Reader, out io.Writer, calls map[string]Call) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	decoder, encoder := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var asked request
		err := decoder.Decode(&asked)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		if err := encoder.Encode(respond(asked, calls)); err != nil {
			return fmt.Errorf("answer a request: %w", err)
		}
	}
}

func respond(asked request, calls map[string]Call) answer {
	call, known := calls[asked.Call]
	switch {
	case !known:
		return answer{Error: fmt.Sprintf("unknown call %q", asked.Call)}
	case asked.Threads > 0:
		made, elapsed := call.makeByMany(asked.Threads, asked.For)
		return answer{Made: made, Elapsed: elapsed}
	case asked.Times == 0 && call.Show == nil:
		return answer{Error: fmt.Sprintf("call %q cannot be shown", asked.Call)}
	case asked.Times == 0:
		return answer{Shown: call.Show()}
	}
	durations, errno, err := call.measure(asked.Times, asked.Pause)
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Durations: durations, Errno: errno}
}

// makeByMany makes the call again and again, by so many threads at once. Without a time to do so for it returns at
// once, and the threads go on.
func (c Call) makeByMany(threads int, during time.Duration) (made int64, elapsed time.Duration) {
	// A raw system call keeps one of the Go runtime's processors.
	runtime.GOMAXPROCS(threads + 2)
	var over atomic.Bool
	var total atomic.Int64
	var making sync.WaitGroup
	started := time.Now()
	for range threads {
		making.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			n := int64(0)
			for ; !over.Load(); n++ {
				c.Make()
			}
			total.Add(n)
		})
	}
	if during == 0 {
		return 0, 0
	}
	time.Sleep(during)
	over.Store(true)
	making.Wait()
	return total.Load(), time.Since(started)
}

// measure makes the call n times. Neither Undo nor the pause before each is in the durations.
func (c Call) measure(n int, pause time.Duration) (durations Durations, failed syscall.Errno, err error) {
	durations = make(Durations, n)
	for i := range durations {
		time.Sleep(pause)
		started := time.Now()
		errno := c.Make()
		durations[i] = time.Since(started)
		if errno != 0 {
			if failed == 0 {
				failed = errno
			}
			continue
		}
		if c.Undo == nil {
			continue
		}
		if err := c.Undo(); err != nil {
			return nil, 0, err
		}
	}
	return durations, failed, nil
}
