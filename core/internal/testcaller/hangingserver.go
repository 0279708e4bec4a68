package testcaller

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// hangingName is argv[0] of the process that serves a hanging file: this same program, executed again.
const hangingName = "intercede-test-hanging"

// hangingDevice is the descriptor of the process's FUSE device, after that of its socket.
const hangingDevice = firstSocket + 1

// hangingServer serves the filesystem of a HangingFile. Were it in the test's own process, threads of that process that
// wait for the filesystem would keep the device open: a killed test would wait for itself for ever.
type hangingServer struct {
	device *os.File
	test   net.Conn

	mu      sync.Mutex
	closes  uint32    // of this process hang too
	pending []hanging // requests
	answer  bool      // from now on
}

// hanging is a request that hangs.
type hanging struct {
	number uint64
	size   int // of the reply
}

// serveHanging serves until the test is over.
func serveHanging() error {
	file := os.NewFile(firstSocket, "socket")
	test, err := net.FileConn(file)
	if err != nil {
		return err
	}
	file.Close()
	s := &hangingServer{device: os.NewFile(hangingDevice, "fuse"), test: test}
	go s.serve()
	orders := json.NewDecoder(test)
	for {
		var o order
		if orders.Decode(&o) != nil {
			return nil
		}
		s.obey(o)
		s.tell(eventObeyed)
	}
}

func (s *hangingServer) obey(o order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !o.Answer {
		s.closes = uint32(o.HangCloses)
		return
	}
	s.answer = true
	for _, request := range s.pending {
		s.answerHanging(request)
	}
	s.pending = nil
}

// tell sends an event. That fails if the test is over, as who reads orders finds out.
func (s *hangingServer) tell(event byte) { s.test.Write([]byte{event}) }

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

// serve answers all requests but those that hang.
func (s *hangingServer) serve() {
	request := make([]byte, 1<<17)
	for {
		n, err := s.device.Read(request)
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
			s.reply(number, 0, out)
		case fuseLookup:
			out := make([]byte, 40+fuseAttr)
			binary.NativeEndian.PutUint64(out, 2) // node
			putAttr(out[40:], 2, unix.S_IFREG|0o444)
			s.reply(number, 0, out)
		case fuseGetattr:
			out := make([]byte, 16+fuseAttr)
			if node := binary.NativeEndian.Uint64(request[16:]); node == 1 {
				putAttr(out[16:], 1, unix.S_IFDIR|0o555)
			} else {
				putAttr(out[16:], node, unix.S_IFREG|0o444)
			}
			s.reply(number, 0, out)
		case fuseOpen:
			s.reply(number, 0, make([]byte, 16))
		case fuseRead:
			s.hang(hanging{number, os.Getpagesize()})
		case fuseFlush:
			if s.hangsAtClose(binary.NativeEndian.Uint32(request[32:])) {
				s.hang(hanging{number, 0})
			} else {
				s.reply(number, 0, nil)
			}
		case fuseForget, fuseStop:
		default:
			s.reply(number, unix.ENOSYS, nil)
		}
	}
}

// hang leaves a request without an answer until there is the order to answer.
func (s *hangingServer) hang(request hanging) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answer {
		s.answerHanging(request)
		return
	}
	s.pending = append(s.pending, request)
	s.tell(eventHangs)
}

func (s *hangingServer) answerHanging(request hanging) {
	s.reply(request.number, 0, make([]byte, request.size))
}

func (s *hangingServer) hangsAtClose(pid uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closes == pid
}

// putAttr writes a struct fuse_attr.
func putAttr(out []byte, node uint64, mode uint32) {
	binary.NativeEndian.PutUint64(out, node)
	binary.NativeEndian.PutUint64(out[8:], uint64(os.Getpagesize()))
	binary.NativeEndian.PutUint32(out[60:], mode)
	binary.NativeEndian.PutUint32(out[64:], 1) // links
}

func (s *hangingServer) reply(number uint64, errno unix.Errno, data []byte) {
	out := make([]byte, fuseOutHeader, fuseOutHeader+len(data))
	binary.NativeEndian.PutUint32(out, uint32(fuseOutHeader+len(data)))
	binary.NativeEndian.PutUint32(out[4:], uint32(-int32(errno)))
	binary.NativeEndian.PutUint64(out[8:], number)
	s.device.Write(append(out, data...)) // fails if who asked has given up
}
