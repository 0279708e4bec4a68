package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"intercede.invalid/oldplugin/wire"
)

type server struct {
	wire.UnimplementedPluginServer
	manifest *wire.Manifest
	control  int // the socket of the lanes
	brought  *brought

	sending  sync.Mutex // over the socket of the lanes
	sent     uint64
	mu       sync.Mutex
	sessions map[uint64]*session
}

type session struct {
	Greeting string
	kept     map[string][]byte
}

func (s *server) Manifest(context.Context, *wire.ManifestRequest) (*wire.Manifest, error) {
	return s.manifest, nil
}

func (s *server) OpenLanes(context.Context, *wire.OpenLanesRequest) (*wire.OpenLanesResponse, error) {
	return &wire.OpenLanesResponse{Accepted: true}, nil
}

func (s *server) Attach(_ context.Context, req *wire.AttachRequest) (*wire.AttachResponse, error) {
	attached := &session{kept: map[string][]byte{}}
	if err := json.Unmarshal([]byte(req.GetSettingsJson()), attached); err != nil {
		return &wire.AttachResponse{Refused: err.Error()}, nil
	}
	if req.GetContainer().GetUserNamespaceIno() == 0 || len(req.GetContainer().GetUidMap()) != 1 {
		return &wire.AttachResponse{Refused: fmt.Sprintf("the container is %v", req.GetContainer())}, nil
	}
	for _, entry := range req.GetKept() {
		attached.kept[string(entry.GetKey())] = entry.GetValue()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[req.GetSession()] = attached
	return &wire.AttachResponse{}, nil
}

func (s *server) Detach(_ context.Context, req *wire.DetachRequest) (*wire.DetachResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, req.GetSession())
	return &wire.DetachResponse{}, nil
}

// Handle has a notification that comes by gRPC.
func (s *server) Handle(stream wire.Plugin_HandleServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	ask := func(question *wire.PluginMessage) (*wire.BrokerMessage, []int, error) {
		if err := stream.Send(question); err != nil {
			return nil, nil, err
		}
		reply, err := stream.Recv()
		if err != nil {
			return nil, nil, err
		}
		return reply, s.brought.take(reply.GetCaptured().GetDescriptors()), nil
	}
	n := first.GetNotification()
	response, added, err := s.answer(n, s.brought.take(n.GetCaptured().GetDescriptors()), ask)
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	if added >= 0 {
		if response.GetAddFd().Descriptors, err = s.sendAdded(added); err != nil {
			return status.Error(codes.Internal, err.Error())
		}
	}
	return stream.Send(&wire.PluginMessage{Message: &wire.PluginMessage_Response{Response: response}})
}

// What a call's first register asks for.
const (
	value     = iota + 101 // the second register
	errno                  // likewise
	kernel                 // continue
	write                  // the byte 0x5a at the address in the second register, and value 7
	addFD                  // the end of a pipe with three bytes
	read                   // value: the byte at the address in the second register
	whoever                // value: the caller's effective user of the host, as declared
	directory              // value: the inode of its working directory, asked for
	opened                 // value: the inode of the descriptor that the fifth register names, as declared
	valid                  // value: 1 if the caller waits
	keep                   // keeps three bytes
	kept                   // value: how many bytes are kept
	greeting               // value: the length of the setting
	fail                   // the plugin fails
	die                    // the process ends, unless an earlier one had the call
)

// ask asks the broker, and returns its answer with descriptors.
type ask func(question *wire.PluginMessage) (*wire.BrokerMessage, []int, error)

// answer handles a notification. The descriptor to add is -1 if there is none.
func (s *server) answer(n *wire.Notification, fds []int, ask ask) (_ *wire.Response, added int, err error) {
	defer func() { closeAll(fds) }()
	s.mu.Lock()
	attached := s.sessions[n.GetSession()]
	s.mu.Unlock()
	if attached == nil {
		return nil, -1, fmt.Errorf("session %d is not attached", n.GetSession())
	}
	if n.GetSyscall() == "sethostname" {
		return of(int64(len(n.GetReads()[0].GetData())), n.GetReads()[0].GetErrno()), -1, nil
	}
	second := n.GetArgs()[1]
	switch n.GetArgs()[0] {
	case value:
		return of(int64(second), 0), -1, nil
	case errno:
		return of(0, int32(second)), -1, nil
	case kernel:
		return &wire.Response{Kind: &wire.Response_Continue{Continue: true}}, -1, nil
	case write:
		response := of(7, 0)
		response.Writes = []*wire.Write{{Address: second, Data: []byte{0x5a}}}
		return response, -1, nil
	case addFD:
		ends := make([]int, 2)
		if err := unix.Pipe2(ends, unix.O_CLOEXEC); err != nil {
			return nil, -1, err
		}
		defer unix.Close(ends[1])
		_, err := unix.Write(ends[1], []byte("old"))
		return &wire.Response{Kind: &wire.Response_AddFd{AddFd: &wire.AddFD{CloseOnExec: true}}}, ends[0], err
	case read:
		reply, _, err := ask(&wire.PluginMessage{Message: &wire.PluginMessage_ReadMemory{
			ReadMemory: &wire.ReadMemory{Address: second, Length: 1},
		}})
		if err != nil || reply.GetMemory().GetErrno() != 0 {
			return of(0, reply.GetMemory().GetErrno()), -1, err
		}
		return of(int64(reply.GetMemory().GetData()[0]), 0), -1, nil
	case whoever:
		return of(int64(n.GetCaptured().GetCredentials().GetUids()[1]), 0), -1, nil
	case directory:
		reply, got, err := ask(&wire.PluginMessage{Message: &wire.PluginMessage_Capture{
			Capture: &wire.Capture{Wants: []*wire.Want{{Part: wire.Part_PART_WORKING_DIRECTORY}}},
		}})
		defer closeAll(got)
		if err != nil {
			return nil, -1, err
		}
		return inode(reply.GetCaptured().GetHandles(), got), -1, nil
	case opened:
		return inode(n.GetCaptured().GetHandles(), fds), -1, nil
	case valid:
		reply, _, err := ask(&wire.PluginMessage{Message: &wire.PluginMessage_CheckValid{CheckValid: &wire.CheckValid{}}})
		if reply.GetValidity().GetValid() {
			return of(1, 0), -1, err
		}
		return of(0, 0), -1, err
	case keep:
		reply, _, err := ask(&wire.PluginMessage{Message: &wire.PluginMessage_Keep{
			Keep: &wire.Keep{Key: []byte("key"), Value: []byte("old")},
		}})
		if err == nil && reply.GetKept() == nil || reply.GetKept().GetRefused() != "" {
			err = fmt.Errorf("not kept: %v", reply)
		}
		return of(0, 0), -1, err
	case kept:
		return of(int64(len(attached.kept["key"])), 0), -1, nil
	case greeting:
		return of(int64(len(attached.Greeting)), 0), -1, nil
	case fail:
		return nil, -1, fmt.Errorf("it did not work")
	case die:
		if !n.GetAgain() {
			os.Exit(3)
		}
		return of(1, 0), -1, nil
	}
	return &wire.Response{Kind: &wire.Response_Next{Next: true}}, -1, nil
}

// of is a value or an errno.
func of(value int64, errno int32) *wire.Response {
	if errno != 0 {
		return &wire.Response{Kind: &wire.Response_Errno{Errno: errno}}
	}
	return &wire.Response{Kind: &wire.Response_Value{Value: value}}
}

// inode is that of the one captured file.
func inode(handles []*wire.Handle, fds []int) *wire.Response {
	if len(handles) != 1 || handles[0].GetErrno() != 0 || !handles[0].GetHasDescriptor() || len(fds) != 1 {
		return of(0, int32(unix.EBADMSG))
	}
	var st unix.Stat_t
	if err := unix.Fstat(fds[0], &st); err != nil {
		return of(0, int32(unix.EBADF))
	}
	return of(int64(st.Ino), 0)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
