package run_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/sdk/sdktest"
)

func TestExitStatus(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		want   int
	}{
		"success":           {"exit 0", 0},
		"failure":           {"exit 42", 42},
		"killed grandchild": {"sh -c 'kill -KILL $$'", 128 + 9},
	} {
		t.Run(name, func(t *testing.T) {
			if got := finish(t, run.Options{Args: shell(test.script)}); got.status != test.want {
				t.Errorf("status %d, want %d (%s)", got.status, test.want, got.stderr)
			}
		})
	}
}

func TestKilled(t *testing.T) {
	container := start(t, run.Options{Args: []string{"sleep", "1000"}})
	if err := container.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if status, err := container.Wait(); status != 128+9 || err != nil {
		t.Errorf("status %d, error %v", status, err)
	}
	if err := container.Signal(unix.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal after the end: %v", err)
	}
}

func TestNamespaces(t *testing.T) {
	text := output(t, run.Options{
		Args:   shell("cat /proc/self/uid_map /proc/self/gid_map; echo $$; hostname; id; pwd; echo $HOSTNAME $HOME $container"),
		Name:   "box",
		HostID: 300000,
	})
	want := "0 300000 65536 0 300000 65536 1 box uid=0(root) gid=0(root) groups=0(root) / box /root intercede"
	if got := strings.Join(strings.Fields(text), " "); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNamespacesAreOwn(t *testing.T) {
	container := start(t, run.Options{Args: []string{"sleep", "1000"}})
	for name, own := range map[string]bool{
		"user": true, "mnt": true, "pid": true, "uts": true, "ipc": true, "cgroup": true, "net": false,
	} {
		inside, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", container.InitPID(), name))
		if err != nil {
			t.Fatal(err)
		}
		outside, err := os.Readlink("/proc/self/ns/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if (inside != outside) != own {
			t.Errorf("%s namespace: %s in the container, %s outside", name, inside, outside)
		}
	}
}

func TestFilesystems(t *testing.T) {
	text := output(t, run.Options{Args: shell(`
		test -d /proc/1 && test ! -e /proc/$PPID/exe && echo proc
		touch /sys/x 2>/dev/null || echo sys
		mount | grep -v '^cgroup' | grep -q ' on /sys .*(ro,' && echo sysro
		for d in null zero full random urandom tty; do test -c /dev/$d || echo missing $d; done
		echo x >/dev/null && test "$(head -c 2 /dev/zero | wc -c)" = 2 && echo devices
		readlink /dev/fd /dev/stdin /dev/stdout /dev/stderr /dev/ptmx
		stat -c %a /dev/shm /dev/mqueue /dev/pts/ptmx
		test ! -e /dev/console && echo noconsole
		touch /tmp/x /dev/shm/x && echo writable
		ls -A /dev/pts
	`)})
	want := "proc sys sysro devices /proc/self/fd /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 pts/ptmx " +
		"1777 1777 666 noconsole writable ptmx"
	if got := strings.Join(strings.Fields(text), " "); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestWorkdirAndEnv(t *testing.T) {
	text := output(t, run.Options{
		Args:    []string{"sh", "-c", "pwd; echo $A $HOME; ulimit -Sn"},
		Workdir: "/usr/bin",
		Env:     []string{"A=b c", "HOME=/h"},
	})
	if want := "/usr/bin\nb c /h\n" + softLimit(t) + "\n"; text != want {
		t.Errorf("got %q, want %q", text, want)
	}
}

// softLimit returns RLIMIT_NOFILE as a child of this test has it: package os/exec gives it back what the Go runtime
// has raised.
func softLimit(t *testing.T) string {
	t.Helper()
	text, err := exec.Command("sh", "-c", "ulimit -Sn").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func TestRootfs(t *testing.T) {
	root := smallRootfs(t)
	text := output(t, run.Options{
		Rootfs: root,
		Args:   shell("touch /mine; mkdir /tmp/dir; touch /other; chown 7:8 /other; stat -c %u:%g / /mine /other; ls /"),
	})
	if want := "0:0 0:0 7:8 bin dev lib lib64 mine other proc sys tmp"; strings.Join(strings.Fields(text), " ") != want {
		t.Errorf("in the container %q, want %q", strings.Fields(text), want)
	}
	for path, want := range map[string][3]uint32{
		"mine":    {0, 0, unix.S_IFREG | 0o644},
		"other":   {7, 8, unix.S_IFREG | 0o644},
		"tmp":     {0, 0, unix.S_IFDIR | 0o1777},
		"tmp/dir": {0, 0, unix.S_IFDIR | 0o755},
		"proc":    {0, 0, unix.S_IFDIR | 0o555},
	} {
		stat := statFile(t, filepath.Join(root, path))
		if got := [3]uint32{stat.Uid, stat.Gid, stat.Mode}; got != want {
			t.Errorf("%s on disk: uid, gid, mode %o, want %o", path, got, want)
		}
	}
}

func TestRootfsSubmountDoesNotPropagate(t *testing.T) {
	root := smallRootfs(t)
	output(t, run.Options{Rootfs: root, Args: shell("echo ok >/tmp/file; cd /tmp; cat file >/dev/null")})
	container := start(t, run.Options{Rootfs: root, Args: []string{"/bin/sh", "-c", "read x"}, Stdin: openPipe(t)})
	checkNothingMounted(t, root)
	if err := container.Close(); err != nil {
		t.Error(err)
	}
	checkNothingMounted(t, root)
}

// openPipe returns the reading end of a pipe that stays open until the test's end.
func openPipe(t *testing.T) *os.File {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close(); writer.Close() })
	return reader
}

func checkNothingMounted(t *testing.T, root string) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, root) || strings.Contains(line, " intercede ") {
			t.Errorf("mounted on the host: %s", line)
		}
	}
}

func TestEphemeral(t *testing.T) {
	root := smallRootfs(t)
	before := listing(t, root)
	text := output(t, run.Options{
		Rootfs:    root,
		Ephemeral: true,
		Args:      shell("echo changed >>/bin/id; touch /new; stat -c %u:%g / /new /bin/id; ls /new; stat -c %a /"),
	})
	if want := "0:0\n0:0\n0:0\n/new\n"; !strings.HasPrefix(text, want) {
		t.Errorf("in the container %q, want %q", text, want)
	}
	if after := listing(t, root); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// listing describes every file below dir.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var text strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		stat := statFile(t, path)
		fmt.Fprintln(&text, path, stat.Uid, stat.Gid, stat.Mode, stat.Size, stat.Mtim, stat.Ctim)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func TestHostRootIsUnchanged(t *testing.T) {
	name := fmt.Sprintf("/etc/intercede-test-%d", os.Getpid())
	text := output(t, run.Options{Args: shell("echo x >" + name + "; stat -c %u " + name +
		"; rm /etc/hostname; test ! -e /etc/hostname && echo gone")})
	if text != "0\ngone\n" {
		t.Errorf("in the container: %q", text)
	}
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s on the host: %v", name, err)
	}
	statFile(t, "/etc/hostname")
}

func TestDeviceNodesOfTheOverlayWork(t *testing.T) {
	container := start(t, run.Options{Args: shell("read x; cat /etc/made-null && echo opened"), Stdin: openPipe(t)})
	path := fmt.Sprintf("/proc/%d/root/etc/made-null", container.InitPID())
	if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	node, err := os.Open(path)
	if err != nil {
		t.Fatalf("a node of the overlay cannot be opened: %v", err)
	}
	node.Close()
}

// A node that the host's filesystem has, and that the container's root owns, opens only if it is one of the usual ones
// or a rule allows it.
func TestDevicesAreLimited(t *testing.T) {
	sdktest.RequireRoot(t)
	root := t.TempDir()
	for name, minor := range map[string]uint32{"null": 3, "kmsg": 11} {
		if err := unix.Mknod(filepath.Join(root, name), unix.S_IFCHR|0o600, int(unix.Mkdev(1, minor))); err != nil {
			t.Fatal(err)
		}
	}
	const script = `: >/nodes/null && echo null; (: >/nodes/kmsg) 2>/dev/null && echo kmsg`
	bind := func(text string) string { return strings.ReplaceAll(text, "/nodes", root) }
	if got := output(t, run.Options{Args: shell(bind(script) + "; true")}); got != "null\n" {
		t.Errorf("opened %q", got)
	}
	if got := output(t, run.Options{Args: shell(bind(script)), Devices: []string{"c 1:11 w"}}); got != "null\nkmsg\n" {
		t.Errorf("with a rule, opened %q", got)
	}
	devices := []string{"c 1:11 r", "b 1:11 w", "c 1:12 w"}
	if got := output(t, run.Options{Args: shell(bind(script) + "; true"), Devices: devices}); got != "null\n" {
		t.Errorf("with rules for others, opened %q", got)
	}
}

// TestConsoleMayBeOpened has the node of the console as other runtimes do: whether there is a console is not the device
// cgroup's business.
func TestConsoleMayBeOpened(t *testing.T) {
	sdktest.RequireRoot(t)
	root := t.TempDir()
	if err := unix.Mknod(filepath.Join(root, "console"), unix.S_IFCHR|0o600, int(unix.Mkdev(5, 1))); err != nil {
		t.Fatal(err)
	}
	got := output(t, run.Options{Args: shell("(: <" + root + "/console) 2>&1; true")})
	if strings.Contains(got, "not permitted") {
		t.Errorf("the container gets %q", got)
	}
}

// TestCgroupIsDelegated has the container's root make cgroups in its own one of version 2, deep ones too, and
// leave them behind.
func TestCgroupIsDelegated(t *testing.T) {
	container := start(t, run.Options{Args: shell(`
		mkdir /tmp/c && mount -t cgroup2 none /tmp/c && cd /tmp/c || exit 1
		mkdir a a/b && echo 0 >a/b/cgroup.procs || exit 2
		(: >cgroup.max.depth) 2>/dev/null && exit 3
		name=$(printf %0200d 0)
		for i in $(seq 15); do mkdir $name && cd $name || exit 4; done
		exit 7`)})
	status, err := container.Wait()
	if err != nil || status != 7 {
		t.Errorf("exit status %d, %v; want 7", status, err)
	}
	dirs := cgroupsNamed(t, container.ID())
	if err := container.Close(); err != nil {
		t.Error(err)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("cgroup %s after Close: %v", dir, err)
		}
	}
}

// cgroupsNamed finds the container's cgroups.
func cgroupsNamed(t *testing.T, id string) (dirs []string) {
	t.Helper()
	filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		if entry != nil && entry.Name() == "intercede-"+id {
			dirs = append(dirs, path)
			return filepath.SkipDir
		}
		return nil // cgroups of others come and go
	})
	if len(dirs) == 0 {
		t.Fatalf("no cgroup of container %s", id)
	}
	return dirs
}

func TestMemory(t *testing.T) {
	const limit = 64 << 20
	container := start(t, run.Options{Args: []string{"sleep", "1000"}, Memory: limit})
	dir := cgroupOf(t, container)
	got, err := os.ReadFile(filepath.Join(dir, "memory.limit_in_bytes"))
	if err != nil {
		got, err = os.ReadFile(filepath.Join(dir, "memory.max"))
	}
	if err != nil || strings.TrimSpace(string(got)) != fmt.Sprint(limit) {
		t.Errorf("limit %q, %v", got, err)
	}
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil || strings.TrimSpace(string(procs)) != fmt.Sprint(container.InitPID()) {
		t.Errorf("processes %q, %v; want %d", procs, err, container.InitPID())
	}
	if err := container.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("cgroup after Close: %v", err)
	}
}

// cgroupOf finds the container's cgroup that limits memory.
func cgroupOf(t *testing.T, container *run.Container) string {
	t.Helper()
	var found string
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		limits, _ := filepath.Glob(path + "/memory.[lm][ia]*") // limit_in_bytes or max
		if entry != nil && entry.Name() == "intercede-"+container.ID() && len(limits) > 0 {
			found = path
			return filepath.SkipAll
		}
		return nil // cgroups of others come and go
	})
	if err != nil || found == "" {
		t.Fatalf("no cgroup of container %s: %v", container.ID(), err)
	}
	return found
}

func TestMemoryIsLimited(t *testing.T) {
	// tail(1) keeps all of an endless line.
	got := finish(t, run.Options{Args: []string{"tail", "/dev/zero"}, Memory: 32 << 20})
	if got.status != 128+9 {
		t.Errorf("status %d, stderr %q; want it killed", got.status, got.stderr)
	}
}

func TestMemoryCgroupOwnNamespace(t *testing.T) {
	text := output(t, run.Options{Args: shell("cat /proc/self/cgroup"), Memory: 32 << 20})
	for line := range strings.Lines(text) {
		if strings.Contains(line, "intercede") || !strings.HasSuffix(line, ":/\n") {
			t.Errorf("the container sees cgroup %q", line)
		}
	}
}

func TestMemoryTooSmallToStart(t *testing.T) {
	if err := startError(t, run.Options{Args: []string{"true"}, Memory: 4096}); !strings.Contains(err.Error(), "raise --memory") {
		t.Error(err)
	}
}

func TestManyAtOnce(t *testing.T) {
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			name := fmt.Sprintf("box%d", i)
			if got := output(t, run.Options{Args: shell("echo $HOSTNAME"), Name: name, Memory: 64 << 20}); got != name+"\n" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestNoDescriptorLeaks(t *testing.T) {
	leaked, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0) // not close-on-exec
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leaked)
	for name, filter := range map[string][]unix.SockFilter{"plain": nil, "filtered": allowAll()} {
		t.Run(name, func(t *testing.T) {
			stdout, read := capture(t)
			container := start(t, run.Options{Args: []string{"ls", "/proc/self/fd"}, Stdout: stdout, Filter: filter})
			if listener := container.Listener(); listener != nil {
				defer listener.Close()
			}
			container.Wait()
			if got := read(); got != "0\n1\n2\n3\n" { // 3 is the directory that ls reads
				t.Errorf("descriptors in the container: %q", got)
			}
		})
	}
}

func TestNothingIsLeft(t *testing.T) {
	root := smallRootfs(t)
	for name, options := range map[string]run.Options{
		"host":      {Args: []string{"true"}, Memory: 32 << 20},
		"rootfs":    {Args: shell("exit 1"), Rootfs: root},
		"ephemeral": {Args: shell("exit 1"), Rootfs: root, Ephemeral: true},
		"not found": {Args: []string{"/nosuch"}, Rootfs: root, Memory: 32 << 20, Filter: allowAll()},
		"no user":   {Args: []string{"true"}, User: "nosuch", Filter: allowAll()},
		"staged":    {Args: []string{"true"}, Mounts: []string{"src=/etc,dst=/x,ro", "src=/usr,dst=/y", "src=/etc/passwd,dst=/z,ro,idmap"}},
		"no source": {Args: []string{"true"}, Mounts: []string{"src=/etc,dst=/x,ro", "src=/nosuch,dst=/y,ro"}},
		"no target": {Args: []string{"true"}, Mounts: []string{"src=/etc,dst=/etc/passwd/x,ro"}},
	} {
		t.Run(name, func(t *testing.T) {
			sdktest.RequireRoot(t)
			before := openDescriptors(t)
			container, err := run.Start(t.Context(), options)
			if err == nil {
				container.Wait()
				if err := container.Close(); err != nil {
					t.Error(err)
				}
			}
			if after := openDescriptors(t); after != before {
				t.Errorf("descriptors before:\n%s\nafter:\n%s", before, after)
			}
			checkNothingMounted(t, root)
			checkThreads(t)
			checkNoChild(t)
		})
	}
}

func openDescriptors(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil && !strings.HasSuffix(target, "/fd") {
			fmt.Fprintln(&text, entry.Name(), target)
		}
	}
	return text.String()
}

// checkThreads waits until no thread is left in a mount namespace of its own.
func checkThreads(t *testing.T) {
	t.Helper()
	want, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "threads leave the private mount namespace", func() bool {
		links, _ := filepath.Glob("/proc/self/task/*/ns/mnt")
		for _, link := range links {
			if got, err := os.Readlink(link); err == nil && got != want {
				return false
			}
		}
		return true
	})
}

func checkNoChild(t *testing.T) {
	t.Helper()
	files, _ := filepath.Glob("/proc/self/task/*/children")
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil && len(data) > 0 {
			t.Errorf("child processes %s", data)
		}
	}
}

// eventually polls; only a hang makes it fail.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestCancel(t *testing.T) {
	sdktest.RequireRoot(t)
	ctx, cancel := context.WithCancel(t.Context())
	container, err := run.Start(ctx, run.Options{Args: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	defer container.Close()
	cancel()
	if status, err := container.Wait(); status != 128+9 || err != nil {
		t.Errorf("status %d, error %v", status, err)
	}
	if _, err := run.Start(ctx, run.Options{Args: []string{"true"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("start with an ended context: %v", err)
	}
}

func TestDiesWithItsCaller(t *testing.T) {
	command := launcher(t, "sleep 1000 & sleep 1000")
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var init int
	_, err = fmt.Fscan(bufio.NewReader(stdout), &init)
	if err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(init, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	left := cgroupsOf(t, init)
	command.Process.Kill()
	command.Wait()
	eventually(t, "the container dies", func() bool {
		ready := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		n, _ := unix.Poll(ready, 0)
		return n == 1
	})
	for _, cgroup := range left {
		eventually(t, "its cgroup, which nobody removes, is empty", func() bool { return unix.Rmdir(cgroup) == nil })
	}
}

// cgroupsOf are the folders of the cgroups that a process has to itself.
func cgroupsOf(t *testing.T, pid int) []string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if !strings.Contains(fields[2], "/intercede-") {
			continue
		}
		filter := []string{"-t", "cgroup", "-O", fields[1]}
		if fields[0] == "0" {
			filter = []string{"-t", "cgroup2"}
		}
		point, err := exec.Command("findmnt", append([]string{"-n", "-o", "TARGET"}, filter...)...).Output()
		if err != nil {
			t.Fatalf("where is the hierarchy of %q mounted: %v", line, err)
		}
		found = append(found, filepath.Join(strings.TrimSpace(string(point)), fields[2]))
	}
	if len(found) == 0 {
		t.Fatalf("no cgroup of its own in %q", text)
	}
	return found
}

func TestNotRoot(t *testing.T) {
	command := launcher(t, "true")
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	text, err := command.Output()
	if err == nil || !strings.Contains(string(text), "must be started as root") {
		t.Errorf("%q, %v", text, err)
	}
}

func TestForwardSignals(t *testing.T) {
	stdout, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer stdout.Close()
	// A shell does not trap what was ignored when it began, as by nohup(1): what is caught here is not.
	signals := map[string]os.Signal{
		"INT": unix.SIGINT, "TERM": unix.SIGTERM, "HUP": unix.SIGHUP, "QUIT": unix.SIGQUIT, "USR1": unix.SIGUSR1,
		"USR2": unix.SIGUSR2, "WINCH": unix.SIGWINCH, "CONT": unix.SIGCONT, "TSTP": unix.SIGTSTP,
	}
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, slices.Collect(maps.Values(signals))...)
	defer signal.Stop(caught)
	container := start(t, run.Options{Stdout: stdout, Args: shell(`
		for s in INT TERM HUP QUIT USR1 USR2 WINCH CONT TSTP; do trap "echo $s" $s; done
		echo ready; while :; do sleep 0.02; done`)})
	stop := container.ForwardSignals()
	defer stop()
	saw := func(word string) func() bool {
		return func() bool {
			data, _ := os.ReadFile(stdout.Name())
			return strings.Contains(string(data), word+"\n")
		}
	}
	eventually(t, "ready", saw("ready"))
	for name, s := range signals {
		if err := unix.Kill(os.Getpid(), s.(unix.Signal)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "SIG"+name+" arrives", saw(name))
	}
}
