// Package testcaller makes cheap containers for tests: a process of the test's own binary, root of a user namespace and
// first of a pid namespace of its own, which loads a seccomp filter and makes the system calls that the test asks for.
package testcaller

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// FirstID is the host's id of a container's root.
const FirstID = 1_000_000

// Timeout is how long a test waits for what must happen, before it fails.
const Timeout = 30 * time.Second

// Caller is a process of a container.
type Caller struct {
	PID     int       // in the test's pid namespace
	Session []*Caller // further processes of the container, which are not filtered yet either

	// Interruptible, before Listener, has the filter be one that signals take callers out of their calls of.
	Interruptible bool

	container *exec.Cmd
	firstFile int // descriptor of the first of the files
	conn      net.Conn

	mu      sync.Mutex
	lastID  uint64
	waiting map[uint64]chan Result
}

// Result is what a call returned. A caller that ended instead has the errno ESRCH.
type Result struct {
	Value int64
	Errno syscall.Errno
}

type request struct {
	ID    uint64
	Op    string
	NR    uintptr
	Args  [6]uint64
	Calls []uint32
}

type reply struct {
	ID    uint64
	Value int64
	Errno syscall.Errno
	Data  []byte
	Error string
}

// Start starts a container with as many processes beside its first. It ends with the test. The first process has the
// files, for MapFile.
func Start(t testing.TB, sessions int, files ...*os.File) *Caller {
	t.Helper()
	sdktest.RequireRoot(t)
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: FirstID, Size: 65536}}
	c := &Caller{container: &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{processName, strconv.Itoa(sessions)}, Stdout: os.Stdout, Stderr: os.Stderr, Dir: "/",
		// The Go runtime would send signals to threads that run for long, one of which could come just after the thread
		// has begun a call: only a test's signals are to take a thread out of it.
		Env: []string{"GOMAXPROCS=1", "GOTRACEBACK=all", "GODEBUG=asyncpreemptoff=1"},
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWPID,
			UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
			Credential: &syscall.Credential{},
		},
	}}
	all := []*Caller{c}
	for range sessions {
		all = append(all, &Caller{})
	}
	for _, process := range all {
		ours, theirs := socketPair(t)
		defer theirs.Close()
		process.connect(ours)
		c.container.ExtraFiles = append(c.container.ExtraFiles, theirs)
	}
	c.firstFile = firstSocket + len(all)
	c.container.ExtraFiles = append(c.container.ExtraFiles, files...)
	if err := c.container.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Kill(); c.close() })
	c.Session = all[1:]
	for _, process := range all {
		process.PID = int(process.ask(t, request{Op: "pid"}).Value)
	}
	return c
}

func socketPair(t testing.TB) (ours net.Conn, theirs *os.File) {
	t.Helper()
	file, theirs, err := linux.SocketpairFiles(unix.SOCK_STREAM, "socket")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if ours, err = net.FileConn(file); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

func (c *Caller) connect(conn net.Conn) {
	c.conn, c.waiting = conn, map[uint64]chan Result{}
}

// Listener filters the process and gives its listener, which the caller of Listener closes. Calls with these numbers
// notify.
func (c *Caller) Listener(t testing.TB, calls ...uint32) *os.File {
	t.Helper()
	load := request{Op: "load", Calls: calls}
	if c.Interruptible {
		load.Args[0] = 1
	}
	loaded := c.ask(t, load)
	pidfd, err := unix.PidfdOpen(c.PID, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, int(loaded.Value), 0)
	if err != nil {
		t.Fatal(err)
	}
	c.ask(t, request{Op: "close", Args: [6]uint64{uint64(loaded.Value)}})
	go c.receive()
	return os.NewFile(uintptr(fd), "listener")
}

// ask is for the time before the filter is loaded.
func (c *Caller) ask(t testing.TB, r request) reply {
	t.Helper()
	var answer reply
	c.conn.SetDeadline(time.Now().Add(Timeout))
	err := errors.Join(json.NewEncoder(c.conn).Encode(r), json.NewDecoder(c.conn).Decode(&answer))
	if err == nil && answer.Error != "" {
		err = errors.New(answer.Error)
	}
	if err != nil {
		t.Fatalf("testcaller: %s: %v", r.Op, err)
	}
	c.conn.SetDeadline(time.Time{})
	return answer
}

// receive hands results to their calls.
func (c *Caller) receive() {
	decoder := json.NewDecoder(c.conn)
	for {
		var r reply
		err := decoder.Decode(&r)
		c.mu.Lock()
		if err != nil {
			for _, waiting := range c.waiting {
				waiting <- Result{Errno: unix.ESRCH}
			}
			c.waiting = nil
			c.mu.Unlock()
			return
		}
		c.waiting[r.ID] <- Result{r.Value, r.Errno}
		delete(c.waiting, r.ID)
		c.mu.Unlock()
	}
}

// Go has a thread of the process make the call.
func (c *Caller) Go(nr uintptr, args ...uint64) <-chan Result {
	return c.send(request{Op: "call", NR: nr, Args: six(args)})
}

// GoFirst has the first thread of the process make the call, one after the other. Its id is the process's.
func (c *Caller) GoFirst(nr uintptr, args ...uint64) <-chan Result {
	return c.send(request{Op: "first", NR: nr, Args: six(args)})
}

// ExecClosing has another thread than the first execute a program, for which one of the files that the process was
// started with is closed: it takes the place, and the id, of the first, and then waits for the file's filesystem.
// Meanwhile the kernel lets nobody look at the process (exec_update_lock, fs/exec.c).
func (c *Caller) ExecClosing(t testing.TB, i int) {
	t.Helper()
	page := c.Map(t).Page
	for at, char := range []byte("/bin/true") { // of a page of zeroes
		c.Poke(t, page+uint64(at), char, 1)
	}
	c.Call(t, unix.SYS_FCNTL, uint64(c.firstFile+i), unix.F_SETFD, unix.FD_CLOEXEC)
	c.Go(unix.SYS_EXECVE, page, 0, 0)
}

func six(args []uint64) (array [6]uint64) {
	copy(array[:], args)
	return array
}

func (c *Caller) send(r request) <-chan Result {
	result := make(chan Result, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		result <- Result{Errno: unix.ESRCH}
		return result
	}
	c.lastID++
	r.ID = c.lastID
	c.waiting[r.ID] = result
	json.NewEncoder(c.conn).Encode(r) // an end of the process is noticed by receive
	return result
}

// Call makes the call and waits for what it returns.
func (c *Caller) Call(t testing.TB, nr uintptr, args ...uint64) Result {
	t.Helper()
	return Await(t, c.Go(nr, args...))
}

// Await waits for a call's result.
func Await(t testing.TB, result <-chan Result) Result {
	t.Helper()
	select {
	case r := <-result:
		return r
	case <-time.After(Timeout):
		t.Fatal("testcaller: the call does not return")
		return Result{}
	}
}

// Mapping is memory of the process: Page is a writable page before an unmapped one, ReadOnly and None are pages.
type Mapping struct{ Page, Unmapped, ReadOnly, None uint64 }

// Map maps memory.
func (c *Caller) Map(t testing.TB) Mapping {
	t.Helper()
	base := Await(t, c.send(request{Op: "map"}))
	if base.Errno != 0 {
		t.Fatalf("testcaller: mmap: %v", base.Errno)
	}
	page := uint64(os.Getpagesize())
	at := uint64(base.Value)
	return Mapping{Page: at, Unmapped: at + page, ReadOnly: at + 2*page, None: at + 3*page}
}

// MapFile maps the first page of one of the files that the container was started with, and returns its address.
func (c *Caller) MapFile(t testing.TB, i int) uint64 {
	t.Helper()
	mapped := Await(t, c.send(request{Op: "mapfile", Args: six([]uint64{uint64(c.firstFile + i)})}))
	if mapped.Errno != 0 {
		t.Fatalf("testcaller: mmap of a file: %v", mapped.Errno)
	}
	return uint64(mapped.Value)
}

// Peek reads a byte of the process's memory.
func (c *Caller) Peek(t testing.TB, address uint64) byte {
	t.Helper()
	return byte(Await(t, c.send(request{Op: "peek", Args: six([]uint64{address})})).Value)
}

// Poke fills n bytes of the process's memory.
func (c *Caller) Poke(t testing.TB, address uint64, value byte, n int) {
	t.Helper()
	Await(t, c.send(request{Op: "poke", Args: six([]uint64{address, uint64(value), uint64(n)})}))
}

// FillTable leaves the process no free descriptor.
func (c *Caller) FillTable(t testing.TB) {
	t.Helper()
	if r := Await(t, c.send(request{Op: "fill"})); r.Errno != unix.EMFILE {
		t.Fatalf("testcaller: filling the table: %+v", r)
	}
}

// Storm makes the call again and again, on as many threads, until the process ends.
func (c *Caller) Storm(threads int, nr uintptr, args ...uint64) {
	for range threads {
		c.send(request{Op: "storm", NR: nr, Args: six(args)})
	}
}

// Kill kills the container and waits until its processes are gone.
func (c *Caller) Kill() {
	c.container.Process.Kill()
	c.container.Wait()
}

func (c *Caller) close() {
	c.conn.Close()
	for _, s := range c.Session {
		s.conn.Close()
	}
}

// Close kills the container and gives back what the test has of it.
func (c *Caller) Close() {
	c.Kill()
	c.close()
}

// End ends this process alone, which is a session.
func (c *Caller) End() {
	<-c.send(request{Op: "exit"}) // ESRCH
}

func hostPID() (int, error) {
	link, err := os.Readlink("/proc/self")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(link)
}
