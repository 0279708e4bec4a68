package testcaller

import (
	"bufio"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// HangingFile is a file of one page of zeroes, in a filesystem that does not answer who reads it, before Answer.
// Whoever reads hangs in the kernel, and after HangCloses one process that closes it.
type HangingFile struct {
	File  *os.File
	Asked chan struct{} // gets one for each read, or close, that hangs

	t      testing.TB
	server net.Conn
	obeyed chan struct{} // gets one for each order; closed: the server has ended
}

// order is what the test tells the server.
type order struct {
	HangCloses int // of the process with this ID; 0: of none
	Answer     bool
}

// An event is a byte that the server sends.
const (
	eventHangs  = 'h' // one more request hangs
	eventObeyed = 'o' // an order is carried out
)

// NewHangingFile makes the filesystem, which no mount namespace has. It ends with the test, and then fails who waits
// for it.
func NewHangingFile(t testing.TB) *HangingFile {
	t.Helper()
	sdktest.RequireRoot(t)
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		sdktest.Lacking(t, "needs /dev/fuse: %v", err)
	}
	device := os.NewFile(uintptr(fd), "fuse")
	defer device.Close()
	mount, err := linux.NewMount("fuse", map[string]string{
		"fd": strconv.Itoa(fd), "rootmode": "40000", "user_id": "0", "group_id": "0",
	}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mount.Close()
	f := &HangingFile{Asked: make(chan struct{}, 100), t: t, obeyed: make(chan struct{})}
	f.startServer(device)
	// Before anybody asks: the kernel fails who waits for the filesystem when nobody has its device any more.
	device.Close()
	file, err := unix.Openat(int(mount.Fd()), "file", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.File = os.NewFile(uintptr(file), "hanging")
	t.Cleanup(func() { f.File.Close() })
	return f
}

// startServer starts the process that serves the filesystem. It ends with the test, and also when this process is
// killed, some of whose threads wait for the filesystem then: they cannot be killed, and keep the socket open. So the
// process is started by a thread that never does so, at whose end the kernel kills it (PR_SET_PDEATHSIG, prctl(2)).
func (f *HangingFile) startServer(device *os.File) {
	f.t.Helper()
	ours, theirs := socketPair(f.t)
	defer theirs.Close()
	f.server = ours
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{hangingName}, Stdout: os.Stdout, Stderr: os.Stderr, Dir: "/", Env: []string{},
		ExtraFiles: []*os.File{firstSocket - 3: theirs, hangingDevice - 3: device},

		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL},
	}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		ours.Close()
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		ours.Close()
		<-ended
	})
	go f.receive()
}

// receive takes the server's events.
func (f *HangingFile) receive() {
	defer close(f.obeyed)
	events := bufio.NewReader(f.server)
	for {
		event, err := events.ReadByte()
		if err != nil {
			return
		}
		if event == eventHangs {
			f.Asked <- struct{}{}
		} else {
			f.obeyed <- struct{}{}
		}
	}
}

// HangCloses has a process hang too that closes a descriptor of the file, in its first thread. Each other process that
// this one has started closes one when it executes its program, at any time.
func (f *HangingFile) HangCloses(pid int) { f.tell(order{HangCloses: pid}) }

// Answer has the filesystem answer, from now on.
func (f *HangingFile) Answer() { f.tell(order{Answer: true}) }

func (f *HangingFile) tell(o order) {
	if err := json.NewEncoder(f.server).Encode(o); err != nil {
		f.t.Errorf("testcaller: telling the server of the hanging file: %v", err)
		return
	}
	if _, ok := <-f.obeyed; !ok {
		f.t.Error("testcaller: the server of the hanging file has ended")
	}
}
