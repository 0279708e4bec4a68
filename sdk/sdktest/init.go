package sdktest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// initSocket is where a container's init gets its messages.
const initSocket = 3

// container is what init knows of the container.
type container struct {
	// outside is a copy of the host's tree, mounted nowhere: a test binary may be linked dynamically, and can only be
	// executed where its libraries are.
	outside *os.File
	root    int
}

// runInit is process 1 of a container: it sets the mounts up and starts programs until the test closes the socket.
func runInit() error {
	unix.CloseOnExec(initSocket)
	var s setup
	mounts, err := receive(initSocket, &s)
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	c, err := enterRootfs(s, mounts)
	if err != nil {
		return errors.Join(fmt.Errorf("init: %w", err), send(initSocket, report{Event: broken, Error: err.Error()}))
	}
	makeThreads()
	if err := send(initSocket, report{Event: ready}); err != nil {
		return err
	}
	for {
		fds, err := receive(initSocket, &start{})
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("init: %w", err)
		}
		c.start(fds)
	}
}

// makeThreads makes threads that the Go runtime keeps, and uses when it needs one. Else it would make one at any time,
// and that could get the id which a program of the container has chosen for what it is about to make (ns_last_pid).
func makeThreads() {
	const enough = 8
	var there, over sync.WaitGroup
	there.Add(enough)
	for range enough {
		over.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			there.Done()
			there.Wait()
		})
	}
	over.Wait()
}

// enterRootfs makes the rootfs the root of the mount namespace.
func enterRootfs(s setup, mounts []int) (*container, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make the mounts private: %w", err)
	}
	outside, err := linux.CloneMount("/", unix.AT_RECURSIVE)
	if err != nil {
		return nil, err
	}
	if err := unix.Mount(s.Rootfs, s.Rootfs, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return nil, fmt.Errorf("bind %s: %w", s.Rootfs, err)
	}
	if err := unix.Mount("proc", filepath.Join(s.Rootfs, "proc"), "proc", 0, ""); err != nil {
		return nil, fmt.Errorf("mount proc in %s: %w", s.Rootfs, err)
	}
	for i, target := range s.Mounts {
		mount := os.NewFile(uintptr(mounts[i]), "mount")
		if err := linux.Attach(mount, filepath.Join(s.Rootfs, target)); err != nil {
			return nil, err
		}
		mount.Close()
	}
	if err := unix.Chdir(s.Rootfs); err != nil {
		return nil, fmt.Errorf("chdir to %s: %w", s.Rootfs, err)
	}
	if err := linux.PivotHere(); err != nil {
		return nil, err
	}
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /: %w", err)
	}
	return &container{outside: outside, root: root}, nil
}

// start starts a program's stage; what becomes of it goes to its report socket, the last of the descriptors.
func (c *container) start(fds []int) {
	socket := fds[len(fds)-1]
	pidfd := -1
	files := []uintptr{uintptr(fds[0]), uintptr(fds[1]), uintptr(fds[2]), programSocket: uintptr(socket), programRoot: uintptr(c.root)}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"program"}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{stageEnv + "=" + stageProgram},
		Files: files,
		Sys:   &syscall.SysProcAttr{Chroot: "/proc/self/fd/" + strconv.Itoa(int(c.outside.Fd())), PidFD: &pidfd},
	})
	if err != nil {
		send(socket, report{Event: broken, Error: err.Error()})
		linux.CloseAll(fds...)
		return
	}
	send(socket, report{Event: started}, pidfd)
	unix.Close(pidfd)
	linux.CloseAll(fds[:len(fds)-1]...)
	go func() {
		send(socket, wait(pid))
		unix.Close(socket)
	}()
}

// wait waits for a program and says how it ended.
func wait(pid int) report {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return report{Event: broken, Error: fmt.Sprintf("wait4: %v", err)}
		}
		break
	}
	if status.Signaled() {
		return report{Event: exited, Code: -1, Signal: status.Signal()}
	}
	return report{Event: exited, Code: status.ExitStatus()}
}
