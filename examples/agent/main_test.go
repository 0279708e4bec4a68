package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// callerName is argv[0] of a process that is a container: this same program.
const callerName = "caller"

func TestMain(m *testing.M) {
	if os.Args[0] == callerName {
		if err := becomeContainer(os.Args[1]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// hostID is root of the container's user namespace.
const hostID = 100000

// TestAgent has a process of a user namespace of its own hand its listener over, as an OCI runtime does, and make
// calls.
func TestAgent(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("INTERCEDE_TEST_STRICT") == "1" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	home := filepath.Join(dir, "home")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(home, 0o755), os.Chown(home, hostID, hostID)); err != nil {
		t.Fatal(err)
	}
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "socket"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	go accept(socket)
	t.Cleanup(func() { socket.Close() })
	got := runContainer(t, socket.Addr().String(), home)
	want := []string{"null ok", "null again EEXIST", "kmsg EPERM", "in a folder of root EACCES", "bad pointer EFAULT",
		"without the capability EPERM"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the container got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(home, "null"), &st); err != nil {
		t.Fatal(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) || st.Uid != hostID {
		t.Errorf("mode %#o, device %#x, user %d", st.Mode, st.Rdev, st.Uid)
	}
}

// runContainer starts the container, whose socket to the agent its runtime has connected, and gives what it says.
func runContainer(t *testing.T, socket, home string) (lines []string) {
	t.Helper()
	connection, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	file, err := connection.(*net.UnixConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command("/proc/self/exe", home)
	cmd.Args[0], cmd.ExtraFiles, cmd.Stderr = callerName, []*os.File{file}, os.Stderr
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: hostID, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{}, Pdeathsig: unix.SIGKILL,
	}
	output, err := cmd.Output()
	if err != nil {
		t.Errorf("the container: %v", err)
	}
	for scanner := bufio.NewScanner(strings.NewReader(string(output))); scanner.Scan(); {
		lines = append(lines, scanner.Text())
	}
	return lines
}

// becomeContainer loads a filter on one thread, hands its listener over, and makes calls on that thread.
func becomeContainer(home string) error {
	runtime.LockOSThread()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_MKNODAT},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	listener, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER,
		uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	state := fmt.Sprintf(`{"ociVersion": "1.0.2", "fds": ["seccompFd"], "pid": %d, "state": {"id": "c1", "pid": %[1]d}}`, os.Getpid())
	if err := unix.Sendmsg(3, []byte(state), unix.UnixRights(int(listener)), nil, 0); err != nil {
		return fmt.Errorf("sendmsg: %w", err)
	}
	unix.Close(int(listener))

	null, kmsg := int(unix.Mkdev(1, 3)), int(unix.Mkdev(1, 11))
	say("null", unix.Mknodat(unix.AT_FDCWD, home+"/null", unix.S_IFCHR|0o666, null))
	say("null again", unix.Mknodat(unix.AT_FDCWD, home+"/null", unix.S_IFCHR|0o666, null))
	say("kmsg", unix.Mknodat(unix.AT_FDCWD, home+"/kmsg", unix.S_IFCHR|0o666, kmsg))
	say("in a folder of root", unix.Mknodat(unix.AT_FDCWD, filepath.Dir(home)+"/null", unix.S_IFCHR|0o666, null))
	_, _, errno = unix.RawSyscall6(unix.SYS_MKNODAT, uintptr(^uint(99)), 1, unix.S_IFCHR|0o666, uintptr(null), 0, 0)
	say("bad pointer", errno)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return err
	}
	say("without the capability", unix.Mknodat(unix.AT_FDCWD, home+"/zero", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
	return nil
}

func say(what string, err error) {
	text := "ok"
	if errno, failed := err.(unix.Errno); failed && errno != 0 {
		text = unix.ErrnoName(errno)
	}
	fmt.Println(what, text)
}

// TestLinks holds the agent to what its README says: of others than the Go project and this one there is nothing in it.
func TestLinks(t *testing.T) {
	output, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(output))
	if len(packages) < 5 {
		t.Fatalf("packages %q", packages)
	}
	for _, path := range packages {
		if path != "example.org/agent" &&
			!strings.HasPrefix(path, "golang.org/x/sys/") && !strings.HasPrefix(path, "github.com/intercede/intercede/") {
			t.Errorf("it links %s", path)
		}
	}
}
