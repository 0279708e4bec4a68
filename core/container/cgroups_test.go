package container

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/intercede/intercede/internal/cgroup"
	"github.com/intercede/intercede/sdk/sdktest"
)

func TestCutAfterRuntimePath(t *testing.T) {
	for _, test := range []struct{ path, cgroupsPath, want string }{
		{"/docker/abc/inner", "/docker/abc", "/docker/abc"},
		{"/docker/abc", "/docker/abc", "/docker/abc"},
		{"/docker/abcd", "/docker/abc", ""},
		{"/below/mine/box/x", "box", "/below/mine/box"},
		{"/machine.slice/libpod-1.scope/container/x", "machine.slice:libpod:1", "/machine.slice/libpod-1.scope"},
		{"/a.slice/1.scope", "a.slice::1", "/a.slice/1.scope"},
		{"/a/b", "", ""},
		{"/a/b", "/", ""},
		{"/a/b", "../b", "/a/b"},
	} {
		if got := cutAfter(test.path, runtimePath(test.cgroupsPath)); got != test.want {
			t.Errorf("%s of %s: %q, want %q", test.path, test.cgroupsPath, got, test.want)
		}
	}
}

// TestMovedProcess looks at a container whose process has moved to a cgroup of its own below the container's.
func TestMovedProcess(t *testing.T) {
	sdktest.RequireRoot(t)
	folders, err := cgroup.OwnFolders()
	if err != nil {
		t.Fatal(err)
	}
	own, mounted := folders[""]
	if !mounted {
		sdktest.Lacking(t, "cgroup version 2 is not mounted")
	}
	group, err := os.MkdirTemp(own.Path, "intercede-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(group) })
	inner := filepath.Join(group, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(inner) })

	c := startIn(t, group)
	if err := os.WriteFile(filepath.Join(inner, "cgroup.procs"), []byte(strconv.Itoa(c.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	for _, config := range []string{"", "/another", filepath.Base(group)} {
		got := inspectContainer(t, Claim{PID: c.Process.Pid, CgroupsPath: config}).Cgroups()[""]
		if filepath.Base(got) != filepath.Base(group) {
			t.Errorf("with cgroupsPath %q the container's cgroup is %s, want %s", config, got, group)
		}
	}
}

// startIn starts a process in a cgroup, which makes a user namespace and a cgroup namespace there and waits.
func startIn(t *testing.T, group string) *exec.Cmd {
	t.Helper()
	c := exec.Command("sh", "-c", "echo 0 > "+group+"/cgroup.procs && exec unshare --user --map-root-user --cgroup sh -c 'echo; read x'")
	input, err1 := c.StdinPipe()
	output, err2 := c.StdoutPipe()
	if err := errors.Join(err1, err2, c.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		input.Close()
		c.Wait()
	})
	if _, err := output.Read(make([]byte, 1)); err != nil { // it is in its namespaces
		t.Fatal(err)
	}
	return c
}
