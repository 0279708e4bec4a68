// Package caller is a program in a container that makes the system calls that it is asked to: with every kind of
// pointer, from many threads, as a 32-bit caller, in a user namespace of its own, and killed meanwhile.
//
// It has two sides: Start runs it in a container, where Init becomes it. They speak JSON over the program's standard
// input and output, one value for a question and one for its answer.
package caller

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
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
	childName   = "intercede-conformance-child" // its second argument is the call
)

// childPipe is the descriptor by which a child says that it is about to make its call, and then what came of it.
const childPipe = 3

// environment has no signal of the Go runtime interrupt a call, and its collector not wait for the end of one.
var environment = []string{"GODEBUG=asyncpreemptoff=1", "GOGC=off"}

type request struct {
	Do     string
	Call   Call
	Times  int             // threads
	Delays []time.Duration // kill: one child for each
}

// What can be asked for.
const (
	doThreads = "threads" // the call, by so many threads at once
	doChild   = "child"   // by a child
	doNested  = "nested"  // by a child that is root of a user namespace of its own
	doKill    = "kill"    // by children, each of which is killed so long after it has begun
	doPark    = "park"    // by a child, and answer when that waits for the call's result
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

func serve(in io.Reader, out io.Writer) error {
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

func (p *program) do(asked *request) ([]Result, error) {
	switch asked.Do {
	case doThreads:
		return atOnce(asked.Call, asked.Times)
	case doChild, doNested:
		return inChild(asked.Call, asked.Do == doNested)
	case doKill:
		return nil, killChildren(asked.Call, asked.Delays)
	case doPark:
		return nil, p.park(asked.Call)
	case doUnpark:
		p.parked.kill()
		return nil, nil
	default:
		return nil, fmt.Errorf("unknown request %q", asked.Do)
	}
}

// atOnce has threads make the call at the same time.
func atOnce(call Call, threads int) ([]Result, error) {
	results, errs := make([]Result, threads), make([]error, threads)
	begin := make(chan struct{})
	var ready, making sync.WaitGroup
	ready.Add(threads)
	for i := range threads {
		making.Go(func() {
			ready.Done()
			<-begin
			results[i], errs[i] = call.make()
		})
	}
	ready.Wait()
	close(begin)
	making.Wait()
	return results, errors.Join(errs...)
}

// child is a process that makes one call.
type child struct {
	command *exec.Cmd
	pipe    *os.File
}

// startChild starts a child, and returns when it is about to make the call.
func startChild(call Call, nested bool) (*child, error) {
	text, err := json.Marshal(call)
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
	if nested {
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		groups := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
		c.command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: groups}
	}
	if err := c.command.Start(); err != nil {
		ours.Close()
		return nil, err
	}
	if _, err := ours.Read(make([]byte, 1)); err != nil {
		c.kill()
		return nil, fmt.Errorf("a child ended before its call: %v", c.command.ProcessState)
	}
	return c, nil
}

// kill ends the child, and waits until it is gone.
func (c *child) kill() {
	c.command.Process.Kill()
	c.command.Wait()
	c.pipe.Close()
}

// result waits for what came of the child's call.
func (c *child) result() (Result, error) {
	defer c.kill()
	var told answer
	if err := json.NewDecoder(c.pipe).Decode(&told); err != nil {
		c.command.Wait()
		return Result{}, fmt.Errorf("a child ended in its call: %v", c.command.ProcessState)
	}
	if told.Error != "" {
		return Result{}, errors.New(told.Error)
	}
	return told.Results[0], nil
}

// beChild makes the call.
func beChild(text string) error {
	runtime.LockOSThread()
	var call Call
	if err := json.Unmarshal([]byte(text), &call); err != nil {
		return err
	}
	pipe := os.NewFile(childPipe, "pipe")
	if _, err := pipe.Write([]byte{'r'}); err != nil {
		return err
	}
	var told answer
	result, err := call.make()
	if err != nil {
		told.Error = err.Error()
	}
	told.Results = []Result{result}
	return json.NewEncoder(pipe).Encode(told)
}

func inChild(call Call, nested bool) ([]Result, error) {
	c, err := startChild(call, nested)
	if err != nil {
		return nil, err
	}
	result, err := c.result()
	return []Result{result}, err
}

func killChildren(call Call, delays []time.Duration) error {
	for _, delay := range delays {
		c, err := startChild(call, false)
		if err != nil {
			return err
		}
		for began := time.Now(); time.Since(began) < delay; { // shorter than a thread sleeps
		}
		c.kill()
	}
	return nil
}

// parkTime is how long a child may take to reach its call.
const parkTime = 10 * time.Second

// park starts a child and returns when it is in its call.
func (p *program) park(call Call) (err error) {
	if p.parked, err = startChild(call, false); err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < parkTime; time.Sleep(time.Millisecond) {
		if p.parked.isIn(call.Number) {
			return nil
		}
	}
	p.parked.kill()
	return errors.New("a child does not reach its call, or has its result although the plugin is stopped")
}

// isIn reports whether a thread of the child waits in the call with this number (proc_pid_syscall(5)).
func (c *child) isIn(number int32) bool {
	paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", c.command.Process.Pid))
	for _, path := range paths {
		text, _ := os.ReadFile(path)
		if strings.HasPrefix(string(text), strconv.Itoa(int(number))+" ") {
			return true
		}
	}
	return false
}
