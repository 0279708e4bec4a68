// Rootless makes a container without privileges, which is a process in a user namespace of its own, and hands a
// listener over to the daemon for it: of the container's process itself, or of this process, which is outside. The
// filtered process then calls sysinfo(2).
//
//	rootless inside|outside SOCKET
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/intercede/intercede/core/intake/oci"
	"github.com/intercede/intercede/internal/cbpf"
	"github.com/intercede/intercede/internal/notify"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(who, socket string) error {
	switch who {
	case "container":
		fmt.Println("ready")
		bufio.NewReader(os.Stdin).ReadString('\n')
		return nil
	case "filtered container":
		return call(os.Getpid(), socket)
	case "inside":
		return container("filtered container", socket).Run()
	}
	c := container("container", socket)
	in, err := c.StdinPipe()
	if err != nil {
		return err
	}
	c.Stdout = nil // this process reads it
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	defer c.Wait()
	defer in.Close()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return err
	}
	return call(c.Process.Pid, socket)
}

// container is this program in a user namespace of its own.
func container(who, socket string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", who, socket)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
	}
	return cmd
}

// call filters this process, says that its listener is of the container of process pid, and makes the call.
func call(pid int, socket string) error {
	program, err := cbpf.Notify(unix.SYS_SYSINFO)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	fd, err := notify.Load(program, unix.SECCOMP_FILTER_FLAG_TSYNC|unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH)
	if err != nil {
		return err
	}
	listener := os.NewFile(uintptr(fd), "listener")
	state := specs.ContainerProcessState{Pid: pid, State: specs.State{ID: "rootless", Pid: pid}}
	if err := oci.Send(context.Background(), socket, state, listener); err != nil {
		return err
	}
	listener.Close()
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return err
	}
	fmt.Println("called")
	return nil
}
