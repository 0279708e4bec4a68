// Package testpeer connects to sockets as another user: a process of the test's own binary, since the kernel tells a
// socket's owner who its peers are (SO_PEERCRED, unix(7)).
package testpeer

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

// processName is argv[0] of a peer: this same program, executed again.
const processName = "intercede-test-peer"

// Init becomes a peer if this process was started as such, and does not return then. TestMain calls it.
func Init() {
	if os.Args[0] != processName {
		return
	}
	if err := connect(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, "testpeer:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func connect(network, path, count, text string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	for range n {
		conn, err := net.Dial(network, path)
		if err != nil {
			return err
		}
		defer conn.Close()
		io.WriteString(conn, text) // fails where the connection was refused
	}
	fmt.Println("connected")
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// Connect has a process of the user uid connect to the socket at path as many times as count says, and send the text
// over each connection. It opens the socket to everybody. The connections stay open until the test ends or close is
// called.
func Connect(t testing.TB, uid uint32, network, path string, count int, text string) (close func()) {
	t.Helper()
	sdktest.RequireRoot(t)
	for name, mode := range map[string]os.FileMode{filepath.Dir(path): 0o755, path: 0o666} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{processName, network, path, strconv.Itoa(count), text}, Stderr: os.Stderr, Dir: "/",
		SysProcAttr: &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}},
	}
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	close = func() {
		in.Close()
		cmd.Wait()
	}
	t.Cleanup(close)
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("testpeer: the process did not connect: %v", err)
	}
	return close
}
