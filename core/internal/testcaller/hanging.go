package testcaller

import (
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
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

	Answer func() // has the filesystem answer, from now on

	device  *os.File
	answer  chan struct{} // closed: answer
	pending chan hanging
	closes  atomic.Uint32 // of this process hang too
}

// hanging is a request that hangs.
type hanging struct {
	number uint64
	size   int // of the reply
}

// HangCloses has a process hang too that closes a descriptor of the file, in its first thread. Each other process that
// this one has started closes one when it executes its program, at any time.
func (f *HangingFile) HangCloses(pid int) { f.closes.Store(uint32(pid)) }

// Requests of the FUSE protocol (include/uapi/linux/fuse.h), and sizes of its structs.
const (
	fuseLookup  = 1
	fuseForget  = 2
	fuseGetattr = 3
	fuseOpen    = 14
	fuseRead    = 15
	fuseFlush   = 25
	fuseInit    = 26
	fuseStop    = 36 // interrupt

	fuseOutHeader = 16
	fuseAttr      = 88
)

// NewHangingFile makes the filesystem, which no mount namespace has. It ends with the test, and then fails who waits
// for it.
func NewHangingFile(t testing.TB) *HangingFile {
	t.Helper()
	sdktest.RequireRoot(t)
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		sdktest.Lacking(t, "needs /dev/fuse: %v", err)
	}
	mount, err := linux.NewMount("fuse", map[string]string{
		"fd": strconv.Itoa(fd), "rootmode": "40000", "user_id": "0", "group_id": "0",
	}, 0)
	// Not before: to who polls it, the device is of no filesystem for ever.
	f := &HangingFile{
		Asked: make(chan struct{}, 100), device: os.NewFile(uintptr(fd), "fuse"), answer: make(chan struct{}), pending: make(chan hanging, 100),
	}
	f.Answer = sync.OnceFunc(func() { close(f.answer) })
	t.Cleanup(func() { f.device.Close() })
	if err != nil {
		t.Fatal(err)
	}
	defer mount.Close()
	go f.serve()
	go f.answerHanging()
	file, err := unix.Openat(int(mount.Fd()), "file", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.File = os.NewFile(uintptr(file), "hanging")
	t.Cleanup(func() { f.File.Close() })
	return f
}

// serve answers all requests but those that hang.
func (f *HangingFile) serve() {
	request := make([]byte, 1<<17)
	for {
		n, err := f.device.Read(request)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINTR) {
			continue // who asked has given up
		}
		if err != nil || n < 40 {
			return
		}
		number := binary.NativeEndian.Uint64(request[8:])
		switch opcode := binary.NativeEndian.Uint32(request[4:]); opcode {
		case fuseInit:
			out := make([]byte, 64)
			binary.NativeEndian.PutUint32(out, 7)
			binary.NativeEndian.PutUint32(out[4:], 31)
			f.reply(number, 0, out)
		case fuseLookup:
			out := make([]byte, 40+fuseAttr)
			binary.NativeEndian.PutUint64(out, 2) // node
			putAttr(out[40:], 2, unix.S_IFREG|0o444)
			f.reply(number, 0, out)
		case fuseGetattr:
			out := make([]byte, 16+fuseAttr)
			if node := binary.NativeEndian.Uint64(request[16:]); node == 1 {
				putAttr(out[16:], 1, unix.S_IFDIR|0o555)
			} else {
				putAttr(out[16:], node, unix.S_IFREG|0o444)
			}
			f.reply(number, 0, out)
		case fuseOpen:
			f.reply(number, 0, make([]byte, 16))
		case fuseRead:
			f.hang(number, os.Getpagesize())
		case fuseFlush:
			if f.closes.Load() == binary.NativeEndian.Uint32(request[32:]) {
				f.hang(number, 0)
			} else {
				f.reply(number, 0, nil)
			}
		case fuseForget, fuseStop:
		default:
			f.reply(number, unix.ENOSYS, nil)
		}
	}
}

// hang leaves a request to answerHanging.
func (f *HangingFile) hang(number uint64, size int) {
	f.pending <- hanging{number, size}
	f.Asked <- struct{}{}
}

func (f *HangingFile) answerHanging() {
	<-f.answer
	for request := range f.pending {
		f.reply(request.number, 0, make([]byte, request.size))
	}
}

// putAttr writes a struct fuse_attr.
func putAttr(out []byte, node uint64, mode uint32) {
	binary.NativeEndian.PutUint64(out, node)
	binary.NativeEndian.PutUint64(out[8:], uint64(os.Getpagesize()))
	binary.NativeEndian.PutUint32(out[60:], mode)
	binary.NativeEndian.PutUint32(out[64:], 1) // links
}

func (f *HangingFile) reply(number uint64, errno unix.Errno, data []byte) {
	out := make([]byte, fuseOutHeader, fuseOutHeader+len(data))
	binary.NativeEndian.PutUint32(out, uint32(fuseOutHeader+len(data)))
	binary.NativeEndian.PutUint32(out[4:], uint32(-int32(errno)))
	binary.NativeEndian.PutUint64(out[8:], number)
	f.device.Write(append(out, data...)) // fails if who asked has given up
}
