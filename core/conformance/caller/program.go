// Package caller is a program in a container that makes the system calls that it is asked to: with every kind of
// pointer, from many threads, as a 32-bit caller, in a user namespace of its own, and killed meanwhile.
//
// It has two sides: Start runs it in a container, where Init becomes it. They speak JSON over the program's standard
// input and output, one value for a question and one for its answer.
package caller

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What this program is when it is executed again: its first argument.
const (
	programName = "intercede-conformance-caller"
	childName   = "intercede-conformance-child" // its second argument is the task
)

// childPipe is the descriptor by which a child says that it is about to make its first call, and then what came of
// each.
const childPipe = 3

// startedEnv is set in the program and its children: without Init they would start containers, and these others.
const startedEnv = "INTERCEDE_CONFORMANCE_CALLER"

// environment has no signal of the Go runtime interrupt a call, and its collector not wait for the end of one.
var environment = []string{"GODEBUG=asyncpreemptoff=1", "GOGC=off", startedEnv + "=1"}

// request asks for something to be done by children of the program: a call can end, or hold up, whoever makes it.
type request struct {
	Do     string
	Calls  []Call          // one, but for doCalls and doNested
	Times  int             // doThreads
	Delays []time.Duration // doKill: one child for each
	Limit  time.Duration   // for the result of a call
}

// What can be asked for.
const (
	doCalls   = "calls"   // one after the other
	doNested  = "nested"  // the same, as root of a user namespace of its own
	doThreads = "threads" // by so many threads at once
	doKill    = "kill"    // by children, each of which is killed so long after it has begun
	doPrepare = "prepare" // by a child, which is ready and makes it at
	doRelease = "release" // for its result, or
	doPark    = "park"    // which is answered when the child waits for the result
	doUnpark  = "unpark"  // kill that child
)

type answer struct {
	Results []Result
	Error   string
}

// Init becomes the program, or a child of it, if this process was started as one, and does not return then. main calls
// it.
func Init() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == programName:
		err = serve(os.Stdin, os.Stdout)
	case len(os.Args) == 3 && os.Args[1] == childName:
		err = beChild(os.Args[2])
	default:
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "caller:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// program is the first process of the container.
type program struct {
	parked *child
}

// maxTasks bounds the processes and threads of the container: a call that the kernel performs may make more of them.
const maxTasks = 512

func serve(in io.Reader, out io.Writer) error {
	// Who is root of a user namespace alone cannot raise it again, and is not above it (copy_process, kernel/fork.c).
	if err := unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: maxTasks, Max: maxTasks}); err != nil {
		return fmt.Errorf("limit the number of processes: %w", err)
	}
	var p program
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
		results, err := p.do(&asked)
		answered := answer{Results: results}
		if err != nil {
			answered.Error = err.Error()
		}
		if err := encoder.Encode(answered); err != nil {
			return fmt.Errorf("answer a request: %w", err)
		}
	}
}

func (p *program) do(asked *request) (results []Result, err error) {
	switch asked.Do {
	case doCalls, doNested:
		return makeAll(asked)
	case doThreads:
		c, err := startChild(task{Calls: asked.Calls, Threads: asked.Times}, false)
		if err != nil {
			return nil, err
		}
		return c.results(asked.Times, asked.Limit), nil
	case doKill:
		return nil, killChildren(asked.Calls, asked.Delays)
	case doPrepare:
		p.parked, err = startChild(task{Calls: asked.Calls, Held: true}, false)
		return nil, err
	case doRelease:
		p.parked.hold.Close()
		return p.parked.results(1, asked.Limit), nil
	case doPark:
		return nil, p.parked.park(asked.Calls[0])
	case doUnpark:
		p.parked.kill()
		return nil, nil
	default:
		return nil, fmt.Errorf("unknown request %q", asked.Do)
	}
}

// perChild bounds the calls of a child, which it has in an argument (MAX_ARG_STRLEN, 128 KiB).
const perChild = 64

// makeAll has the calls made, by another child after each that ends one.
func makeAll(asked *request) (results []Result, err error) {
	for left := asked.Calls; len(left) > 0; left = asked.Calls[len(results):] {
		left = left[:min(len(left), perChild)]
		c, err := startChild(task{Calls: left}, asked.Do == doNested)
		if err != nil {
			return nil, err
		}
		results = append(results, c.results(len(left), asked.Limit)...)
	}
	return results, nil
}

// task is what a child is to do: the calls one after the other, or one of them by threads.
type task struct {
	Calls   []Call
	Threads int
	Held    bool // until its standard input ends
}

// child is a process that makes calls.
type child struct {
	command *exec.Cmd
	pipe    *os.File
	hold    io.Closer // its standard input; nil: it is not held
	syscall *os.File  // what it is in (proc_pid_syscall(5)); nil: it is not held
}

// startChild starts a child, and returns when it is about to make its first call.
func startChild(work task, nested bool) (*child, error) {
	text, err := json.Marshal(work)
	if err != nil {
		return nil, err
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	c := &child{pipe: ours, command: exec.Command("/proc/self/exe", childName, string(text))}
	c.command.Env = append(os.Environ(), environment...)
	c.command.Stderr = os.Stderr
	c.command.ExtraFiles = []*os.File{theirs}
	if work.Held {
		if c.hold, err = c.command.StdinPipe(); err != nil {
			return nil, err
		}
	}
	if nested {
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		groups := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
		c.command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: groups}
	}
	if err := c.command.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("start a child: %w", err)
	}
	var tid int32
	if err := binary.Read(ours, binary.NativeEndian, &tid); err != nil {
		c.kill()
		return nil, fmt.Errorf("a child ended before its call: %v", c.command.ProcessState)
	}
	if work.Held {
		// Opened now: when the plugin is stopped, its calls cannot be made, and opening may be one of them.
		if c.syscall, err = os.Open(fmt.Sprintf("/proc/%d/task/%d/syscall", c.command.Process.Pid, tid)); err != nil {
			c.kill()
			return nil, err
		}
	}
	return c, nil
}

// kill ends the child, and waits until it is gone.
func (c *child) kill() {
	c.command.Process.Kill()
	c.command.Wait()
	c.pipe.Close()
	c.syscall.Close()
}

// results waits for the results of so many calls, or for the first of them that ends the child, or has none in time.
func (c *child) results(n int, limit time.Duration) (results []Result) {
	defer c.kill()
	decoder := json.NewDecoder(c.pipe)
	for len(results) < n {
		var result Result
		c.pipe.SetReadDeadline(time.Now().Add(limit))
		err := decoder.Decode(&result)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return append(results, Result{Ended: fmt.Sprintf("no result within %v", limit)})
		}
		if err != nil {
			c.command.Wait()
			return append(results, Result{Ended: fmt.Sprintf("the caller ended: %v", c.command.ProcessState)})
		}
		results = append(results, result)
	}
	return results
}

// beChild makes the calls.
func beChild(text string) error {
	var work task
	if err := json.Unmarshal([]byte(text), &work); err != nil {
		return err
	}
	var calls []prepared
	for i := range work.Calls {
		calls = append(calls, prepare(&work.Calls[i]))
	}
	runtime.LockOSThread()
	pipe := os.NewFile(childPipe, "pipe")
	encoder := json.NewEncoder(pipe)
	if err := binary.Write(pipe, binary.NativeEndian, int32(unix.Gettid())); err != nil { // it is ready
		return err
	}
	if work.Held {
		io.Copy(io.Discard, os.Stdin)
	}
	if work.Threads > 0 {
		return encodeAll(encoder, atOnce(&work.Calls[0], work.Threads))
	}
	for _, call := range calls {
		if err := encoder.Encode(call.make()); err != nil {
			return err
		}
	}
	return nil
}

func encodeAll(encoder *json.Encoder, results []Result) error {
	for _, result := range results {
		if err := encoder.Encode(result); err != nil {
			return err
		}
	}
	return nil
}

// atOnce has threads make the call at the same time, each with memory of its own.
func atOnce(call *Call, threads int) []Result {
	results := make([]Result, threads)
	begin := make(chan struct{})
	var ready, making sync.WaitGroup
	ready.Add(threads)
	for i := range threads {
		making.Go(func() {
			own := prepare(call)
			ready.Done()
			<-begin
			results[i] = own.make()
		})
	}
	ready.Wait()
	close(begin)
	making.Wait()
	return results
}

func killChildren(calls []Call, delays []time.Duration) error {
	for _, delay := range delays {
		c, err := startChild(task{Calls: calls}, false)
		if err != nil {
			return err
		}
		for began := time.Now(); time.Since(began) < delay; { // shorter than a thread sleeps
		}
		c.kill()
	}
	return nil
}

// parkTime is how long a child may take to reach its call: whatever keeps it there is stopped for a moment only.
const parkTime = time.Second

// park lets the child go on, and returns when it is in its call.
func (c *child) park(call Call) error {
	c.hold.Close()
	for began := time.Now(); time.Since(began) < parkTime; time.Sleep(time.Millisecond) {
		if c.isIn(call.Number) {
			return nil
		}
	}
	return errors.New("a child does not wait in its call")
}

// isIn reports whether the child waits in the call with this number.
func (c *child) isIn(number int32) bool {
	text := make([]byte, 32)
	n, _ := c.syscall.ReadAt(text, 0)
	return strings.HasPrefix(string(text[:n]), strconv.Itoa(int(number))+" ")
}
