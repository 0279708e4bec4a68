package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk/sdktest"
)

// lxcContainer is an unprivileged container of LXC's, whose init does what the test says, a line of shell at a time.
type lxcContainer struct {
	name, dir string // dir is the lxcpath
	monitor   *exec.Cmd
	in        io.WriteCloser
	out       *bufio.Reader
	ended     bool
}

// lxcPrograms are what a test with LXC needs.
var lxcPrograms = []string{"lxc-execute", "lxc-attach", "busybox", "unshare", "newuidmap"}

// newLXC writes a container's config and root, with further lines of config.
func (s *site) newLXC(t *testing.T, lines ...string) *lxcContainer {
	t.Helper()
	require(t, lxcPrograms...)
	dir, err := os.MkdirTemp("", "ic")
	if err != nil {
		t.Fatal(err)
	}
	c := &lxcContainer{name: filepath.Base(dir), dir: dir, ended: true}
	t.Cleanup(func() {
		c.end(t)
		c.removeCgroups(t)
		os.RemoveAll(dir)
	})
	c.makeRootfs(t)
	c.write(t, "subid", fmt.Sprintf("root:%d:65536\n", bundleID))
	c.write(t, "notify.seccomp", mustRun(t, program("profile", "--config", s.config(), "--format", "lxc",
		"--base", "/usr/share/lxc/config/common.seccomp")))
	config := append([]string{
		"lxc.uts.name = " + c.name,
		"lxc.rootfs.path = dir:" + dir + "/rootfs",
		fmt.Sprintf("lxc.idmap = u 0 %d 65536", bundleID),
		fmt.Sprintf("lxc.idmap = g 0 %d 65536", bundleID),
		"lxc.mount.auto = proc:mixed",
		"lxc.net.0.type = empty",
		"lxc.apparmor.profile = unconfined",
		"lxc.seccomp.profile = " + dir + "/notify.seccomp",
		"lxc.seccomp.notify.proxy = unix:" + s.lxcSocket(),
	}, lines...)
	c.write(t, c.name+"/config", strings.Join(config, "\n")+"\n")
	return c
}

func (c *lxcContainer) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(c.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// buildCalls builds testdata/calls for a root filesystem without libraries.
func buildCalls(t *testing.T, path string) {
	t.Helper()
	calls := exec.Command("go", "build", "-o", path, "./testdata/calls")
	calls.Env = append(os.Environ(), "CGO_ENABLED=0")
	mustRun(t, calls)
}

func (c *lxcContainer) makeRootfs(t *testing.T) {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	buildCalls(t, c.dir+"/rootfs/bin/calls")
	mustRun(t, exec.Command("sh", "-ec", `
		cd "$1/rootfs"
		mkdir -p proc dev tmp sys etc
		cp "$2" bin/busybox
		for applet in sh mknod sleep stat free rm mkdir; do ln -s busybox "bin/$applet"; done
		chmod 755 "$1"
		chown -R "$3:$3" .`, "sh", c.dir, busybox, strconv.Itoa(bundleID)))
}

// cmd is a command of LXC, with root's ids delegated to it, in a mount namespace of its own.
func (c *lxcContainer) cmd(name string, args ...string) *exec.Cmd {
	const delegate = `mount --bind "$1" /etc/subuid && mount --bind "$1" /etc/subgid && shift && exec "$@"`
	return exec.Command("unshare", append([]string{"-m", "--propagation", "private", "sh", "-c", delegate, "sh", c.dir + "/subid",
		name, "-P", c.dir, "-n", c.name, "-o", c.dir + "/log", "-l", "INFO"}, args...)...)
}

// start starts the container.
func (c *lxcContainer) start(t *testing.T) {
	t.Helper()
	c.monitor = c.cmd("lxc-execute", "--", "/bin/sh", "-c", `while read line; do eval "$line" 2>&1; echo "[$?]"; done`)
	in, err1 := c.monitor.StdinPipe()
	out, err2 := c.monitor.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	c.in, c.out = in, bufio.NewReader(out)
	// LXC's own words, on a call that was answered without it: it writes a line in several parts, between which the
	// container may write.
	words, err := os.Create(filepath.Join(c.dir, "words"))
	if err != nil {
		t.Fatal(err)
	}
	defer words.Close()
	c.monitor.Stderr = words
	if err := c.monitor.Start(); err != nil {
		t.Fatal(err)
	}
	c.ended = false
	if got := c.sh(t, "echo started"); got != "started\n" {
		t.Fatalf("the container says %q\n%s", got, c.log(t))
	}
}

// sh has the container's init evaluate the line, and gives what it says.
func (c *lxcContainer) sh(t *testing.T, line string) string {
	t.Helper()
	text, err := c.try(line)
	if err != nil {
		t.Fatalf("%s: %v: %s\n%s", line, err, text, c.log(t))
	}
	return text
}

func (c *lxcContainer) try(line string) (string, error) {
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		return "", err
	}
	var said strings.Builder
	for {
		line, err := c.out.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "[") {
			return said.String(), err
		}
		said.WriteString(line)
	}
}

func (c *lxcContainer) log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(c.dir + "/log")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// attach runs a command in the container.
func (c *lxcContainer) attach(t *testing.T, args ...string) string {
	t.Helper()
	cmd := c.cmd("lxc-attach", append([]string{"--clear-env", "-v", "PATH=/bin", "--"}, args...)...)
	cmd.Stdin = strings.NewReader("")
	r := runCmd(t, cmd)
	return r.stdout + r.stderr
}

// end lets the container end by itself.
func (c *lxcContainer) end(t *testing.T) {
	t.Helper()
	if c.ended {
		return
	}
	c.ended = true
	c.in.Close()
	impatience := time.AfterFunc(patience, func() {
		t.Error("the container does not end")
		c.monitor.Process.Kill()
	})
	defer impatience.Stop()
	c.monitor.Wait()
}

// kill kills the monitor, which takes the container along (lxc.monitor.signal.pdeath).
func (c *lxcContainer) kill(t *testing.T) {
	t.Helper()
	c.monitor.Process.Kill()
	c.end(t)
}

// removeCgroups removes what a monitor that was killed has left.
func (c *lxcContainer) removeCgroups(t *testing.T) {
	t.Helper()
	left, _ := filepath.Glob("/sys/fs/cgroup/*/lxc.*." + c.name)
	more, _ := filepath.Glob("/sys/fs/cgroup/lxc.*." + c.name)
	for _, dir := range append(left, more...) {
		eventually(t, "the cgroup "+dir+" can be removed", func() bool {
			return exec.Command("find", dir, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+").Run() == nil
		})
	}
}

// cgroupLines are a memory limit, and the real-time budget that cgroup v1 may ask for, where this machine has them.
func cgroupLines() []string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{"lxc.cgroup2.memory.max = 64M"}
	}
	lines := []string{"lxc.cgroup.memory.limit_in_bytes = 64M"}
	if _, err := os.Stat("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"); err == nil {
		lines = append(lines, "lxc.cgroup.cpu.rt_runtime_us = 10000")
	}
	return lines
}

const allPlugins = "[plugins.mknod]\n[plugins.sysinfo]\n[plugins.setxattr]\n[plugins.sched]\n[plugins.bpf]\n" +
	"[plugins.bpf.config]\ndevices = true\n"

// The whole life of a container, with all families.
func TestLXCLife(t *testing.T) {
	s := newSite(t, allPlugins)
	s.serve(t)
	c := s.newLXC(t, append(cgroupLines(), "lxc.seccomp.notify.cookie = biscuit")...)
	c.start(t)
	for _, test := range []struct{ line, want string }{
		{"mknod -m 600 /tmp/null c 1 3 && stat -c '%t:%T %a %u:%g' /tmp/null", "1:3 600 0:0\n"},
		{"echo gone >/tmp/null && stat -c %s /tmp/null", "0\n"},
		{"mknod /tmp/kmsg c 1 11", "mknod: /tmp/kmsg: Operation not permitted\n"},
		{"mknod /tmp/console c 5 1", "mknod: /tmp/console: Operation not permitted\n"}, // it has no device cgroup
		{"cd /tmp; mknod ../tmp/zero c 1 5 && stat -c %t:%T zero; cd /", "1:5\n"},
		{"free -k", "Mem:          65536"},
		{"calls setxattr /tmp", "set\n"},
		{"calls sched", "policy 1\n"},
		{"mkdir /tmp/cgroup && busybox mount -t cgroup2 none /tmp/cgroup && calls bpf /tmp/cgroup", "anon_inode:bpf-prog close-on-exec 1\n"},
	} {
		if got := c.sh(t, test.line); !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", test.line, got, test.want)
		}
	}

	status := s.status(t)
	if len(status.Containers) != 1 || status.LXCSocket != s.lxcSocket() {
		t.Fatalf("status %+v", status)
	}
	if got := status.Containers[0]; got.ID != c.name || got.Runtime != "lxc" || got.Listeners != 1 || got.Calls < 5 || got.Failures != 0 {
		t.Errorf("status %+v", got)
	}
	wantText(t, mustRun(t, program("status", "--config", s.config())), s.lxcSocket(), c.name)
	wantText(t, mustRun(t, program("policy", "explain", "--config", s.config(), c.name)), c.name, "biscuit", "lxc.payload."+c.name)

	c.end(t)
	s.waitForContainers(t, 0)
}

// A process of lxc-attach is filtered too, and comes over the same connection.
func TestLXCAttach(t *testing.T) {
	s := newSite(t, both)
	s.serve(t)
	c := s.newLXC(t)
	c.start(t)
	wantText(t, c.attach(t, "/bin/sh", "-c", "mknod /tmp/null c 1 3 && stat -c %t:%T /tmp/null; mknod /tmp/kmsg c 1 11"), "1:3\n",
		"/tmp/kmsg: Operation not permitted")
	wantText(t, c.sh(t, "mknod /tmp/zero c 1 5 && stat -c %t:%T /tmp/zero"), "1:5\n")
	if got := s.status(t).Containers; len(got) != 1 || got[0].Listeners != 1 || got[0].Calls < 3 {
		t.Errorf("status %+v", got)
	}
}

// Rules match LXC's containers by what is known of them.
func TestLXCRules(t *testing.T) {
	s := newSite(t, `
[plugins.mknod]
enabled = false
[[container]]
match = { runtime = "lxc", cookie = "biscuit", peer_uid = 0 }
plugins.mknod.enabled = true
`)
	s.serve(t)
	for _, test := range []struct{ cookie, want string }{{"biscuit", "made\n"}, {"crumb", "not permitted"}} {
		c := s.newLXC(t, "lxc.seccomp.notify.cookie = "+test.cookie)
		c.start(t)
		wantText(t, c.sh(t, "mknod /tmp/null c 1 3 && echo made"), test.want)
	}
}

// Containers do not wait for each other, a slow call of one is ended, and the monitor lives on.
func TestLXCSlowCall(t *testing.T) {
	s := newSite(t, "[plugins.mknod]\ntimeout = \"5s\"\non_failure = \"EIO\"\n[plugins.sysinfo]\n")
	s.serve(t)
	slow, other := s.newLXC(t), s.newLXC(t)
	slow.start(t)
	other.start(t)
	wantText(t, slow.sh(t, "mknod /tmp/full c 1 7 && echo made"), "made\n")
	wantText(t, other.sh(t, "free -k"), "Mem:")
	if got := s.status(t).Containers; len(got) != 2 {
		t.Fatalf("status %+v", got)
	}
	thaw := freezePlugin(t, s, "mknod")
	said := make(chan string)
	go func() {
		text, _ := slow.try("mknod /tmp/null c 1 3; free -k")
		said <- text
	}()
	wantText(t, other.sh(t, "free -k"), "Mem:")
	wantText(t, <-said, "/tmp/null: Input/output error", "Mem:")
	thaw()
	wantText(t, slow.sh(t, "mknod /tmp/zero c 1 5 && echo made"), "made\n")
}

// freezePlugin freezes a plugin's process, which is slow then, and not stopped: a stopped one is replaced. It waits
// until each thread is frozen: one may serve a call before it is.
func freezePlugin(t *testing.T, s *site, name string) (thaw func()) {
	t.Helper()
	freezer := sdktest.RequireCgroups(t, "freezer")
	group, err := os.MkdirTemp(freezer, "ic")
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(group, name), []byte(text), 0); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	thaw = sync.OnceFunc(func() {
		write("freezer.state", "THAWED")
		text, _ := os.ReadFile(filepath.Join(group, "cgroup.procs"))
		for pid := range strings.FieldsSeq(string(text)) {
			os.WriteFile(filepath.Join(freezer, "cgroup.procs"), []byte(pid), 0) // it may have ended
		}
		eventually(t, "the plugin has left the cgroup", func() bool { return os.Remove(group) == nil })
	})
	t.Cleanup(thaw)
	for _, p := range s.status(t).Plugins {
		if p.Name == name {
			write("cgroup.procs", strconv.Itoa(p.PID))
		}
	}
	write("freezer.state", "FROZEN")
	eventually(t, "the plugin is frozen", func() bool { return readText(t, filepath.Join(group, "freezer.state")) == "FROZEN\n" })
	return thaw
}

// While there is no broker calls get ENOSYS; the next one serves the container again.
func TestLXCBrokerDies(t *testing.T) {
	s := newSite(t, both)
	d := s.serve(t)
	c := s.newLXC(t)
	c.start(t)
	const mknod = "rm -f /tmp/null; mknod /tmp/null c 1 3 && echo made"
	wantText(t, c.sh(t, mknod), "made\n")
	d.kill()
	wantText(t, c.sh(t, mknod), "Function not implemented")
	next := s.serve(t)
	wantText(t, c.sh(t, mknod), "made\n")
	if got := s.status(t); len(got.Containers) != 1 || got.Containers[0].ID != c.name || len(got.Lost) != 0 {
		t.Errorf("containers %+v, lost %+v", got.Containers, got.Lost)
	}
	next.stop(t)
	wantText(t, c.sh(t, mknod), "Function not implemented")
}

// LXC finds out that there is no broker when the container has begun, and ends it.
func TestLXCWithoutBroker(t *testing.T) {
	s := newSite(t, both)
	c := s.newLXC(t)
	if r := runCmd(t, c.cmd("lxc-execute", "--", "/bin/sh", "-c", "exec sleep 1000")); r.status == 0 {
		t.Error("it went well")
	}
	wantText(t, c.log(t), "seccomp proxy")
}

func TestLXCMonitorDies(t *testing.T) {
	s := newSite(t, both)
	s.serve(t)
	c := s.newLXC(t)
	c.start(t)
	wantText(t, c.sh(t, "mknod /tmp/null c 1 3 && echo made"), "made\n")
	s.waitForContainers(t, 1)
	c.kill(t)
	s.waitForContainers(t, 0)
}

// A container that reboots has another init under the same monitor, which connects again.
func TestLXCReboot(t *testing.T) {
	s := newSite(t, both)
	d := s.serve(t)
	c := s.newLXC(t)
	c.start(t)
	const mknod = "rm -f /tmp/null; mknod /tmp/null c 1 3 && echo made"
	var err error
	for range 3 {
		wantText(t, c.sh(t, mknod), "made\n")
		got := s.status(t).Containers
		if len(got) != 1 || got[0].Listeners != 1 {
			t.Fatalf("status %+v", got)
		}
		fmt.Fprintln(c.in, "busybox reboot -f")
		s.waitForContainers(t, 0)
		fmt.Fprintln(c.in, "echo up")
		for line := ""; line != "up\n"; {
			if line, err = c.out.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		c.out.ReadString('\n') // that it has done so
		for line := range strings.Lines(d.log.String()) {
			if strings.Contains(line, `"warn"`) && !strings.Contains(line, "no descriptor store") {
				t.Errorf("the daemon warns: %s", line)
			}
		}
	}
	wantText(t, c.sh(t, mknod), "made\n")
}

// A filesystem of a block device, by mount(2) and by the newer calls, each of which gives the caller a descriptor.
func TestLXCMount(t *testing.T) {
	require(t, "losetup", "mkfs.ext4")
	s := newSite(t, "[plugins.mount]\n[plugins.mount.config]\nallowed = [\"ext4\"]\nshift = true\n")
	s.serve(t)
	c := s.newLXC(t)
	image := c.dir + "/image"
	mustRun(t, exec.Command("truncate", "-s", "16M", image))
	mustRun(t, exec.Command("mkfs.ext4", "-q", image))
	device := strings.TrimSpace(mustRun(t, exec.Command("losetup", "--find", "--show", image)))
	t.Cleanup(func() {
		c.end(t)
		mustRun(t, exec.Command("losetup", "--detach", device))
	})
	mustRun(t, exec.Command("sh", "-ec", `cp -a "$1" "$2" && chown "$3:$3" "$2"`, "sh", device, c.dir+"/rootfs/disk", strconv.Itoa(bundleID)))
	c.start(t)
	c.sh(t, "mkdir /tmp/disk")
	const look = " && stat -c %u:%g /tmp/disk/lost+found && busybox umount /tmp/disk"
	wantText(t, c.sh(t, "busybox mount -t ext4 /disk /tmp/disk"+look), "0:0\n")
	wantText(t, c.sh(t, "calls fsmount /disk /tmp/disk"+look), "mounted\n0:0\n")
	if got := s.status(t).Containers; len(got) != 1 || got[0].Failures != 0 {
		t.Errorf("status %+v", got)
	}
}
