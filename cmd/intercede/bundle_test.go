package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const (
	bundleID = 100000 // of the container's root on the host
	memory   = int64(64 << 20)
)

// bundle is an OCI bundle, and the container that a runtime makes of it.
type bundle struct {
	dir     string
	id      string
	command []string // the runtime with its global flags
}

// runtimes are the commands of the OCI runtimes under test. crun refuses hybrid cgroups that have a controller in the
// unified tree, so it gets to see none.
var runtimes = map[string][]string{
	"runc": {"runc"},
	"crun": {"unshare", "-m", "--propagation", "private", "sh", "-c", "umount /sys/fs/cgroup/unified 2>/dev/null; exec crun \"$@\"", "sh"},
}

// newBundle makes a bundle with busybox that runs the script, with the seccomp profile.
func newBundle(t *testing.T, runtime, profile, script string) *bundle {
	t.Helper()
	require(t, runtime, "busybox", "unshare")
	dir, err := os.MkdirTemp("", "ic")
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle{dir: dir, id: filepath.Base(dir), command: append(runtimes[runtime], "--root", dir+"/state")}
	t.Cleanup(func() {
		runCmd(t, b.cmd("delete", "--force", b.id))
		os.RemoveAll(dir)
	})
	b.makeRootfs(t)
	b.writeSpec(t, profile, script)
	return b
}

func (b *bundle) makeRootfs(t *testing.T) {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	mustRun(t, exec.Command("sh", "-ec", `
		mkdir -p "$1/rootfs/bin" "$1/rootfs/proc" "$1/rootfs/dev" "$1/rootfs/tmp" "$1/rootfs/sys"
		cp "$2" "$1/rootfs/bin/busybox"
		for applet in sh mknod sleep stat free mkfifo mkdir; do ln -s busybox "$1/rootfs/bin/$applet"; done
		chmod 755 "$1"
		chown -R "$3:$3" "$1/rootfs"`, "sh", b.dir, busybox, strconv.Itoa(bundleID)))
}

// writeSpec writes config.json: an unprivileged container as engines make it, with a memory limit.
func (b *bundle) writeSpec(t *testing.T, profile, script string) {
	t.Helper()
	limit := memory
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: bundleID, Size: 65536}}
	caps := []string{"CAP_MKNOD", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"}
	spec := specs.Spec{
		Version: "1.0.2",
		Process: &specs.Process{
			Args: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/bin"}, Cwd: "/",
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Root:     &specs.Root{Path: "rootfs"},
		Hostname: "box",
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.UserNamespace}, {Type: specs.PIDNamespace}, {Type: specs.MountNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.IPCNamespace}, {Type: specs.NetworkNamespace},
			},
			UIDMappings: ids, GIDMappings: ids,
			CgroupsPath: "/" + b.id,
			Resources:   &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}},
			Seccomp:     &specs.LinuxSeccomp{},
		},
	}
	if err := json.Unmarshal([]byte(profile), spec.Linux.Seccomp); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.dir+"/config.json", text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// cmd is a command of the runtime. Its standard input is a pipe, because crun gives the host's /dev/null to the
// container's root where it is that.
func (b *bundle) cmd(args ...string) *exec.Cmd {
	all := append(append([]string{}, b.command...), args...)
	cmd := exec.Command(all[0], all[1:]...)
	cmd.Dir, cmd.Stdin = b.dir, strings.NewReader("")
	return cmd
}

// create creates the container. Its standard output is a file, since the container keeps it.
func (b *bundle) create(t *testing.T) error {
	t.Helper()
	out, err := os.Create(b.dir + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := b.cmd("create", "--bundle", b.dir, b.id)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd.Run()
}

// output is what the container and the runtime have written so far.
func (b *bundle) output(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(b.dir + "/out")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// said waits until the container has written the text.
func (b *bundle) said(t *testing.T, text string) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("the container wrote:\n%s", b.output(t))
		}
	}()
	eventually(t, "the container says "+text, func() bool { return strings.Contains(b.output(t), text) })
}
