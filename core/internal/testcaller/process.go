package testcaller

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"github.com/intercede/intercede/internal/cbpf"
	"github.com/intercede/intercede/internal/notify"
	"golang.org/x/sys/unix"
)

// processName is argv[0] of a container's process: this same program, executed again.
const processName = "intercede-test-caller"

// firstSocket is the descriptor of the process's socket. The sockets of sessions follow.
const firstSocket = 3

// Init becomes a process of a container, or the server of a hanging file, if this one was started as such, and does not
// return then. TestMain calls it.
func Init() {
	var err error
	switch os.Args[0] {
	case processName:
		err = serve()
	case hangingName:
		err = serveHanging()
	default:
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testcaller:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// The first goroutine stays on the first thread, which makes the calls of GoFirst.
func init() {
	if os.Args[0] == processName {
		runtime.LockOSThread()
	}
}

func serve() error {
	if err := startSessions(); err != nil {
		return err
	}
	file := os.NewFile(firstSocket, "socket")
	conn, err := net.FileConn(file)
	if err != nil {
		return err
	}
	file.Close()
	p := &process{encoder: json.NewEncoder(conn)}
	first := make(chan request)
	go p.receive(json.NewDecoder(conn), first)
	for r := range first {
		p.answer(r)
	}
	return nil
}

// receive answers requests until the test is over, but for those of the first thread.
func (p *process) receive(decoder *json.Decoder, first chan<- request) {
	defer close(first)
	for {
		var r request
		if decoder.Decode(&r) != nil {
			return
		}
		switch r.Op {
		case "call", "storm":
			go p.answer(r)
		case "first":
			first <- r
		default:
			p.answer(r)
		}
	}
}

// startSessions starts a process for each further socket, of which the first process has argv[1].
func startSessions() error {
	unix.CloseOnExec(firstSocket)
	if len(os.Args) < 2 {
		return nil
	}
	n, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return err
	}
	for i := range n {
		unix.CloseOnExec(firstSocket + 1 + i)
	}
	for i := range n {
		file := os.NewFile(uintptr(firstSocket+1+i), "socket")
		session := &exec.Cmd{
			Path: "/proc/self/exe", Args: []string{processName}, Stdout: os.Stdout, Stderr: os.Stderr, Env: os.Environ(),
			ExtraFiles: []*os.File{file},
		}
		if err := session.Start(); err != nil {
			return err
		}
		file.Close()
		go session.Wait()
	}
	return nil
}

type process struct {
	mu      sync.Mutex
	encoder *json.Encoder
}

func (p *process) answer(r request) {
	answer := p.perform(r)
	answer.ID = r.ID
	p.mu.Lock()
	defer p.mu.Unlock()
	p.encoder.Encode(answer)
}

func (p *process) perform(r request) reply {
	switch r.Op {
	case "pid":
		pid, err := hostPID()
		return reply{Value: int64(pid), Error: text(err)}
	case "load":
		fd, err := load(r.Calls, r.Args[0] != 0)
		return reply{Value: int64(fd), Error: text(err)}
	case "close":
		return reply{Error: text(unix.Close(int(r.Args[0])))}
	case "call", "first":
		return call(r)
	case "storm":
		for {
			call(r)
		}
	case "map":
		return mapMemory()
	case "mapfile":
		at, _, errno := unix.Syscall6(unix.SYS_MMAP, 0, uintptr(os.Getpagesize()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE, uintptr(r.Args[0]), 0)
		return reply{Value: int64(at), Errno: errno}
	case "peek":
		return reply{Value: int64(*(*byte)(pointer(r.Args[0])))}
	case "poke":
		for i := range r.Args[2] {
			*(*byte)(pointer(r.Args[0] + i)) = byte(r.Args[1])
		}
		return reply{}
	case "fill":
		return fill()
	case "exit":
		os.Exit(0)
	}
	return reply{Error: "unknown op " + r.Op}
}

// load has all threads notify these system calls of the native architecture.
func load(calls []uint32, interruptible bool) (notify.FD, error) {
	program, err := cbpf.Notify(calls...)
	if err != nil {
		return -1, err
	}
	load := notify.Load
	if interruptible {
		load = notify.LoadInterruptible
	}
	return load(program, unix.SECCOMP_FILTER_FLAG_TSYNC|unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH)
}

// pointer keeps vet from reading an address of mmap as a mistake.
func pointer(address uint64) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&address)) }

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func call(r request) reply {
	a := r.Args
	value, _, errno := syscall.Syscall6(r.NR, uintptr(a[0]), uintptr(a[1]), uintptr(a[2]), uintptr(a[3]), uintptr(a[4]), uintptr(a[5]))
	return reply{Value: int64(value), Errno: errno}
}

// mapMemory maps what Mapping describes.
func mapMemory() reply {
	page := uintptr(os.Getpagesize())
	at, _, errno := unix.Syscall6(unix.SYS_MMAP, 0, 4*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uintptr(0), 0)
	if errno == 0 {
		_, _, errno = unix.Syscall(unix.SYS_MUNMAP, at+page, page, 0)
	}
	if errno == 0 {
		_, _, errno = unix.Syscall(unix.SYS_MPROTECT, at+2*page, page, unix.PROT_READ)
	}
	if errno == 0 {
		_, _, errno = unix.Syscall(unix.SYS_MPROTECT, at+3*page, page, unix.PROT_NONE)
	}
	return reply{Value: int64(at), Errno: errno}
}

// fill lowers the limit of descriptors to what is open, so that the table is full.
func fill() reply {
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}); err != nil {
		return reply{Error: err.Error()}
	}
	for {
		if _, err := unix.Dup(0); err != nil {
			errno, _ := err.(syscall.Errno)
			return reply{Errno: errno}
		}
	}
}
