package target_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// parkOnFUSE parks a target that has mounted a filesystem on /tmp/f, which the test serves by the file.
func parkOnFUSE(t *testing.T) (*target.Target, *os.File) {
	t.Helper()
	sdktest.RequireRoot(t)
	mount := sdktest.Tmpfs(t, 0)
	if err := unix.Mknodat(int(mount.Fd()), "fuse", unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fchmodat(int(mount.Fd()), "fuse", 0o666, 0); err != nil {
		t.Fatal(err)
	}
	if fd, err := unix.Openat(int(mount.Fd()), "fuse", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		sdktest.Lacking(t, "needs /dev/fuse: %v", err)
	} else {
		unix.Close(fd)
	}
	_, _, parked := parkWith(t, []sdktest.Option{sdktest.WithMount(mount, "/mnt/host")}, "mkdir /tmp/f", "open /mnt/host/fuse O_RDWR",
		"mount fuse none /tmp/f 0 fd=3,rootmode=40000,user_id=0,group_id=0,allow_other")
	pidfd, err := unix.PidfdOpen(parked.TID(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, 3, 0)
	if err != nil {
		t.Fatal(err)
	}
	server := os.NewFile(uintptr(fd), "fuse")
	t.Cleanup(func() { server.Close() })
	return parked, server
}

// Requests of the FUSE protocol (include/uapi/linux/fuse.h).
const (
	fuseInHeader  = 40 // length, opcode, unique, nodeid, uid, gid, pid ...
	fuseOutHeader = 16 // length, error, unique
	fuseInitOut   = 64 // major, minor ...
	fuseInit      = 26
)

// readRequest waits for a request and gives its opcode and unique number.
func readRequest(t *testing.T, server *os.File) (opcode uint32, unique uint64) {
	t.Helper()
	request := make([]byte, 1<<17)
	n, err := unix.Read(int(server.Fd()), request)
	if err != nil || n < fuseInHeader {
		t.Fatalf("a request of %d bytes, %v", n, err)
	}
	return binary.NativeEndian.Uint32(request[4:]), binary.NativeEndian.Uint64(request[8:])
}

// answerInit answers the first request, after which the filesystem is in use.
func answerInit(t *testing.T, server *os.File) {
	t.Helper()
	opcode, number := readRequest(t, server)
	if opcode != fuseInit {
		t.Fatalf("the first request is %d", opcode)
	}
	reply := make([]byte, fuseOutHeader+fuseInitOut)
	binary.NativeEndian.PutUint32(reply, uint32(len(reply)))
	binary.NativeEndian.PutUint64(reply[8:], number)
	binary.NativeEndian.PutUint32(reply[fuseOutHeader:], 7)
	binary.NativeEndian.PutUint32(reply[fuseOutHeader+4:], 31)
	if _, err := unix.Write(int(server.Fd()), reply); err != nil {
		t.Fatal(err)
	}
}

// cancelInside calls fn, cancels it when the filesystem has got its request, which stays without an answer, and makes
// sure that it ends with the context's error and keeps no descriptor.
func cancelInside(t *testing.T, server *os.File, fn func(context.Context) error) {
	t.Helper()
	before := descriptors(t)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() { failed <- fn(ctx) }()
	awaitReadable(t, int(server.Fd()))
	readRequest(t, server)
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	awaitDescriptors(t, before) // another goroutine may set the deadline of the socket when that is closed
}

// TestFUSE has a filesystem whose server, the target, takes a request and never answers: whoever asked waits, and
// cannot be killed. Do is not let in; OpenParent does not wait for the one that is stuck.
func TestFUSE(t *testing.T) {
	parked, server := parkOnFUSE(t)
	answerInit(t, server)
	if err := parked.CaptureAll(); err != nil {
		t.Fatal(err)
	}
	var opened error
	if err := parked.Do(0, func() error {
		_, _, opened = target.OpenParentHere(unix.AT_FDCWD, "/tmp/f/d/n")
		return nil
	}); err != nil || !errors.Is(opened, unix.EACCES) {
		t.Errorf("in Do: %v, %v", err, opened)
	}

	cancelInside(t, server, func(ctx context.Context) error {
		_, _, err := parked.OpenParent(ctx, unix.AT_FDCWD, "/tmp/f/d/n", 0)
		return err
	})
}

// TestStepsLinger has a process that such a filesystem holds up: of this process it keeps nothing open.
func TestStepsLinger(t *testing.T) {
	parked, server := parkOnFUSE(t)
	answerInit(t, server)
	s := &target.Steps{}
	s.Add("setfsgid", unix.SYS_SETFSGID, sdktest.HostID)
	s.Add("setfsuid", unix.SYS_SETFSUID, sdktest.HostID)
	for _, ns := range []struct {
		name string
		kind int
	}{{"mnt", unix.CLONE_NEWNS}, {"user", unix.CLONE_NEWUSER}} {
		namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", parked.TID(), ns.name))
		if err != nil {
			t.Fatal(err)
		}
		defer namespace.Close()
		s.KeepOpen(int(namespace.Fd()))
		s.Add("setns", unix.SYS_SETNS, int(namespace.Fd()), ns.kind)
	}
	s.Add("open", unix.SYS_OPENAT, unix.AT_FDCWD, "/tmp/f/d", unix.O_PATH, 0)
	cancelInside(t, server, func(ctx context.Context) error { return s.Run(ctx, someNamespace) })
}
