package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// enabled are the settings with which the plugin does something.
var enabled = sdktest.WithSettings(map[string]any{"devices": true})

// tree are cgroups for a test: one for the container, with two below it, and one beside it. In the container they are
// in /top. The whole hierarchy is in /cgroup, and the symbolic link /whole leads to the tree there.
type tree struct {
	top string
}

var groups = []string{"own", "own/sub", "own/sub/deep", "sibling"}

func newTree(t testing.TB) tree {
	t.Helper()
	sdktest.RequireRoot(t)
	top, err := os.MkdirTemp(hierarchy(t), "bpf-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeCgroups(t, top) })
	for _, name := range groups {
		if err := os.Mkdir(filepath.Join(top, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(top, 0o755); err != nil {
		t.Fatal(err)
	}
	return tree{top}
}

// hierarchy is where the v2 hierarchy is mounted.
func hierarchy(t testing.TB) string {
	t.Helper()
	return sdktest.RequireCgroups(t, "")
}

// inCgroup is a container in a cgroup of the v2 hierarchy.
func inCgroup(path string) sdk.Container { return sdk.Container{Cgroups: map[string]string{"": path}} }

// removeCgroups removes a cgroup and those below it. Processes that were killed may take a moment to leave.
func removeCgroups(t testing.TB, dir string) {
	t.Helper()
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeCgroups(t, filepath.Join(dir, e.Name()))
		}
	}
	err := unix.Rmdir(dir)
	for end := time.Now().Add(time.Minute); errors.Is(err, unix.EBUSY) && time.Now().Before(end); err = unix.Rmdir(dir) {
		time.Sleep(5 * time.Millisecond)
	}
	if err != nil {
		t.Errorf("remove cgroup %s: %v", dir, err)
	}
}

func (tr tree) open(t testing.TB, name string) *os.File {
	t.Helper()
	dir, err := os.Open(filepath.Join(tr.top, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

// mounts are those of the tree and of the hierarchy.
func (tr tree) mounts(t testing.TB) []sdktest.Option {
	t.Helper()
	return []sdktest.Option{
		sdktest.WithMount(cloneMount(t, tr.top), "/top"),
		sdktest.WithMount(cloneMount(t, hierarchy(t)), "/cgroup"),
	}
}

// container makes a container in the tree's cgroup "own", with /dev/null and the tree.
func (tr tree) container(t testing.TB, h sdk.Handler, options ...sdktest.Option) *sdktest.Container {
	t.Helper()
	return tr.containerBy(t, func(options ...sdktest.Option) *sdktest.Container {
		t.Helper()
		return sdktest.NewContainer(t, h, options...)
	}, options...)
}

// containerBy is container where something else makes it.
func (tr tree) containerBy(t testing.TB, new newContainer, options ...sdktest.Option) *sdktest.Container {
	t.Helper()
	c := new(slices.Concat([]sdktest.Option{sdktest.WithCgroup(tr.open(t, "own"))}, tr.mounts(t), options)...)
	null := filepath.Join(c.Rootfs(), "dev/null")
	if err := errors.Join(
		unix.Mknod(null, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		os.Chmod(null, 0o666),
		os.Symlink(filepath.Join("/cgroup", filepath.Base(tr.top)), filepath.Join(c.Rootfs(), "whole")),
	); err != nil {
		t.Fatal(err)
	}
	return c
}

// checkErrnos runs a script whose calls must get the errors want ("ok EEXIST").
func checkErrnos(t testing.TB, c *sdktest.Container, want string, script ...string) sdktest.Result {
	t.Helper()
	got := c.Call(t, script...)
	if errnos := sdktest.Errnos(got.Lines(t)); errnos != want {
		t.Errorf("got %s, want %s", errnos, want)
	}
	return got
}

// closeCopies closes sdktest's copies of the descriptors that the calls returned.
func closeCopies(got sdktest.Result) {
	for _, call := range got.Calls {
		if call.Outcome.File != nil {
			call.Outcome.File.Close()
		}
	}
}

func cloneMount(t testing.TB, path string) *os.File {
	t.Helper()
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		t.Fatalf("open_tree %s: %v", path, err)
	}
	mount := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { mount.Close() })
	return mount
}

// enabledContainer makes a container with a tree of its own, and the plugin enabled.
func enabledContainer(t testing.TB, options ...sdktest.Option) (*sdktest.Container, tree) {
	t.Helper()
	tr := newTree(t)
	return tr.container(t, handler{}, append([]sdktest.Option{enabled}, options...)...), tr
}

// startHostProcess starts a process of the host in the container's cgroup.
func (tr tree) startHostProcess(t testing.TB) {
	t.Helper()
	sleep := exec.Command("sleep", "infinity")
	sleep.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(tr.open(t, "own").Fd())}
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		sleep.Process.Kill()
		sleep.Wait()
	})
}

// attachAsHost attaches a program that allows everything, or nothing.
func (tr tree) attachAsHost(t testing.TB, name string, verdict int32, flags uint32) *ebpf.Program {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupDevice, License: "MIT", Instructions: always(verdict)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	err = link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: int(tr.open(t, name).Fd()), Program: program, Attach: ebpf.AttachCGroupDevice, Flags: flags,
	})
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func idOf(t testing.TB, program *ebpf.Program) uint32 {
	t.Helper()
	info, err := program.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	return uint32(id)
}

// attached are the programs of a cgroup.
func (tr tree) attached(t testing.TB, name string) attached {
	t.Helper()
	now, errno := queryAttached(int(tr.open(t, name).Fd()))
	if errno != 0 {
		t.Fatal(errno)
	}
	return now
}

// count is how many programs are attached to each cgroup of the tree.
func (tr tree) count(t testing.TB) string {
	t.Helper()
	var counts []string
	for _, name := range append([]string{"."}, groups...) {
		counts = append(counts, fmt.Sprintf("%s:%d", name, len(tr.attached(t, name).programs)))
	}
	return strings.Join(counts, " ")
}

func (tr tree) checkCount(t testing.TB, want string) {
	t.Helper()
	if got := tr.count(t); got != want {
		t.Errorf("attached: %s, want %s", got, want)
	}
}

// none is the count of a tree that has no programs.
const none = ".:0 own:0 own/sub:0 own/sub/deep:0 sibling:0"

func always(verdict int32) asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()}
}

// denyNull denies character device 1:3.
var denyNull = asm.Instructions{
	asm.LoadMem(asm.R2, asm.R1, 4, asm.Word),
	asm.LoadMem(asm.R3, asm.R1, 8, asm.Word),
	asm.Mov.Imm(asm.R0, 1),
	asm.JNE.Imm(asm.R2, 1, "end"),
	asm.JNE.Imm(asm.R3, 3, "end"),
	asm.Mov.Imm(asm.R0, 0),
	asm.Return().WithSymbol("end"),
}

// marshal is the program as the kernel takes it.
func marshal(instructions asm.Instructions) []byte {
	var text bytes.Buffer
	// References to symbols are resolved on a copy.
	if err := append(asm.Instructions{}, instructions...).Marshal(&text, binary.LittleEndian); err != nil {
		panic(err)
	}
	return text.Bytes()
}

// What follows writes calls for scripts. Descriptors are numbers: a script's first is 3. Programs are attached with
// BPF_F_ALLOW_MULTI.

func loadCall(instructions asm.Instructions) string {
	text := marshal(instructions)
	const rest = "p=s:MIT,4=0,4=0,8=0,4=0,4=0,8=0,8=0,4=0,4=0 72"
	return fmt.Sprintf("bpf 5 struct:4=15,4=%d,p=hex:%x,%s", len(text)/insnSize, text, rest)
}

func attachCall(target, program int) string {
	return fmt.Sprintf("bpf 8 struct:4=%d,4=%d,4=6,4=2,4=0 20", target, program)
}

func replaceCall(target, program, replaced int) string {
	return fmt.Sprintf("bpf 8 struct:4=%d,4=%d,4=6,4=6,4=%d 20", target, program, replaced)
}

func detachCall(target, program int) string {
	return fmt.Sprintf("bpf 9 struct:4=%d,4=%d,4=6 12", target, program)
}

func linkCall(target, program int) string {
	return fmt.Sprintf("bpf 28 struct:4=%d,4=%d,4=6,4=0 16", program, target)
}

func queryCall(target, flags, count int) string {
	return fmt.Sprintf("bpf 16 struct:4=%d,4=6,4=%d,4=0x5a5a,p=buf:16,4=%d,4=0 32", target, flags, count)
}

const multi = unix.BPF_F_ALLOW_MULTI

func openDir(path string) string { return "open " + path + " O_RDONLY|O_DIRECTORY" }

const openNull = "openfile /dev/null O_RDWR"
