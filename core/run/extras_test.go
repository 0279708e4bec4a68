package run_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

func TestUlimits(t *testing.T) {
	got := output(t, run.Options{
		Args:    shell("ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc; ulimit -f"),
		Ulimits: []string{"nofile=100:200", "core=0:-1", "fsize=1024"},
	})
	if want := "100\n200\n0\nunlimited\n2\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTmpfs(t *testing.T) {
	got := output(t, run.Options{
		Args:  shell("grep -E ' /(srv/a|srv/ro|mnt/x|mnt/x/y) ' /proc/self/mounts | cut -d' ' -f2-4; stat -c '%a %u' /srv/a; touch /srv/a/b"),
		Tmpfs: []string{"/mnt/x/y:exec,size=1m", "/srv/a:mode=700", "/srv/ro:ro"}, Mounts: []string{"type=tmpfs,dst=/mnt/x,tmpfs-size=64k"},
	})
	for _, want := range []string{
		"/srv/a tmpfs rw,nosuid,nodev,noexec", "/mnt/x tmpfs rw,nosuid,nodev,noexec", "/mnt/x/y tmpfs rw,nosuid,nodev", "/srv/ro tmpfs ro",
		"size=1024k", "700 0\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// TestBind has what the container can do to folders of the host: to a read-only one nothing, whatever it remounts.
func TestBind(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"private": 0o600, "public": 0o666} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(name), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	script := "cat $d/private; cat $d/public; echo x >>$d/public; mount -o remount,bind,rw $d; mount -o remount,rw $d; " +
		"echo y >>$d/public; stat -c %u $d/private"
	for options, want := range map[string]string{
		"":         "public 65534 publicx y",
		"idmap":    "private public 0 publicx y",
		"ro":       "public 65534 public",
		"ro,idmap": "private public 0 public",
	} {
		t.Run(options, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(dir, "public"), []byte("public\n"), 0); err != nil {
				t.Fatal(err)
			}
			got := finish(t, run.Options{Args: shell("d=/srv/d; " + script), Mounts: []string{"src=" + dir + ",dst=/srv/d," + options}})
			after, err := os.ReadFile(filepath.Join(dir, "public"))
			if err != nil {
				t.Fatal(err)
			}
			seen, left := strings.Replace(got.stdout, "private", "private ", 1), strings.Replace(string(after), "\nx", "x", 1)
			text := strings.Join(strings.Fields(seen+" "+left), " ")
			if text != want {
				t.Errorf("got %q, want %q (%s)", text, want, got.stderr)
			}
		})
	}
}

// TestReadOnlyHolds has the container's root try to write through a read-only bind mount, to one below it, and to see
// what that one covers.
func TestReadOnlyHolds(t *testing.T) {
	sdktest.RequireRoot(t)
	dir := t.TempDir()
	writeFile(t, dir+"/file", "file")
	writeFile(t, dir+"/sub/covered", "covered")
	if err := unix.Mount("tmpfs", dir+"/sub", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir+"/sub", unix.MNT_DETACH) })
	writeFile(t, dir+"/sub/shown", "shown")
	for _, path := range []string{dir, dir + "/file", dir + "/sub", dir + "/sub/shown"} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	const script = `exec 2>/dev/null; mkdir -p /mnt /opt
		try() {
			for at in $1 $1/sub /srv/file; do
				mount -o remount,bind,rw $at && echo bind $at; mount -o remount,rw $at && echo remount $at
			done
			for file in $1/file $1/sub/shown $1/new $1/sub/new /srv/file; do (echo x >$file) && echo wrote $file; done
			for at in $1 $1/sub /srv/file; do
				mount -o remount,bind,ro,exec,suid,dev $at && echo exec $at
				mount -o remount,bind,ro,strictatime $at && echo atime $at
			done
			umount $1/sub && echo umount; umount -l $1/sub && echo detached; mount --move $1/sub /mnt && echo moved
			mount --bind $1 /opt && echo alone; ls $1/sub
		}
		try /srv/d; mount --rbind /srv/d /mnt && try /mnt; unshare -m sh -c "$(type try | sed 1d); try /srv/d"
		unshare -Urm true && unshare -Urm sh -c "$(type try | sed 1d); try /srv/d"
		umount -R /mnt; umount -l /srv/d && ls /srv/d; mount | grep -c intercede-; cat /srv/file`
	got := finish(t, run.Options{Args: []string{"bash", "-c", script}, Mounts: []string{
		"src=" + dir + ",dst=/srv/d,ro,noexec,nosuid,nodev,noatime", "src=" + dir + "/file,dst=/srv/file,ro,noexec,nosuid,nodev,noatime",
	}})
	if want := "shown\nshown\nshown\nshown\n0\nfile"; got.stdout != want {
		t.Errorf("got %q, want %q", got.stdout, want)
	}
	for path, want := range map[string]string{dir + "/file": "file", dir + "/sub/shown": "shown"} {
		if text, err := os.ReadFile(path); string(text) != want || err != nil {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
}

// TestReadOnlyWithOthers mixes kinds of mounts, with a socket below a read-only one, and proc.
func TestReadOnlyWithOthers(t *testing.T) {
	dir := t.TempDir()
	listener, err := net.Listen("unix", dir+"/socket")
	if err == nil {
		err = os.Chmod(dir+"/socket", 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for c, err := listener.Accept(); err == nil; c, err = listener.Accept() {
			c.Write([]byte("connected\n"))
			c.Close()
		}
	}()
	got := output(t, run.Options{
		Args: shell("perl -MIO::Socket::UNIX -e 'print IO::Socket::UNIX->new(Peer => \"/srv/d/socket\")->getline'; " +
			"test -e /srv/proc/1/comm && echo proc; (echo >/srv/proc/sys/kernel/hostname) 2>/dev/null || echo refused; " +
			"stat -c %t:%T /srv/full; touch /srv/t/x; cat /proc/1/comm"),
		Mounts: []string{
			"src=" + dir + ",dst=/srv/d,ro", "type=tmpfs,dst=/srv/t", "src=/etc/hostname,dst=/srv/t/name,ro,idmap", "src=/proc,dst=/srv/proc,ro",
		},
		DeviceNodes: []string{"/dev/full:/srv/full"},
	})
	if want := "connected\nproc\nrefused\n1:7\nsh\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestBindFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	mount := "type=bind,src=" + file + ",target=/opt/a/b,ro,idmap"
	if got := output(t, run.Options{Args: shell("cat /opt/a/b"), Mounts: []string{mount}}); got != "text" {
		t.Errorf("got %q", got)
	}
}

// TestDevice opens a node of the host, which stays closed without the option.
func TestDevice(t *testing.T) {
	sdktest.RequireRoot(t)
	node := filepath.Join(t.TempDir(), "fuse")
	if err := unix.Mknod(node, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 229))); err != nil {
		t.Fatal(err)
	}
	script := shell("stat -c '%F %a %u %t:%T' /dev/a/fuse; exec 3</dev/a/fuse && echo open; exec 4>/dev/a/fuse && echo writable")
	got := finish(t, run.Options{Args: script, DeviceNodes: []string{node + ":/dev/a/fuse:r"}})
	if want := "character special file 600 0 a:e5\nopen\n"; got.stdout != want || !strings.Contains(got.stderr, "not permitted") {
		t.Errorf("got %q, %q, want %q", got.stdout, got.stderr, want)
	}
}

// TestDeviceInDev checks which nodes are mounts: those below a mount, and those that replace what /dev has anyway.
func TestDeviceInDev(t *testing.T) {
	sdktest.RequireRoot(t)
	null := filepath.Join(t.TempDir(), "null")
	err := unix.Mknod(null, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
	if err == nil {
		err = os.Chmod(null, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	got := output(t, run.Options{
		Args: shell("stat -c '%F %a %u %g %t:%T' /dev/one; grep -o ' /dev/[a-z/]* ' /proc/self/mounts | sort | tr -d '\n'; " +
			"umount /dev/one 2>/dev/null || echo still; mv /dev/one /dev/two; rm /dev/two; " +
			"echo x 2>/dev/null >/dev/zero || echo full"),
		DeviceNodes: []string{null + ":/dev/one", "/dev/full:/dev/zero", "/dev/full:/dev/over/x"},
		Tmpfs:       []string{"/dev/over"}, Mounts: []string{"src=/etc/passwd,dst=/dev/file"},
	})
	const want = "character special file 666 0 0 1:3\n" +
		" /dev/file  /dev/full  /dev/mqueue  /dev/null  /dev/over  /dev/over/x  /dev/pts  /dev/random  /dev/shm " +
		" /dev/tty  /dev/urandom  /dev/zero  /dev/zero " +
		"still\nfull\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestMaps has more ids than usual.
func TestMaps(t *testing.T) {
	got := output(t, run.Options{
		Args:   shell("cat /proc/self/uid_map /proc/self/gid_map; id -u; touch /tmp/x; stat -c %u /tmp/x"),
		UIDMap: []string{"0:300000:65536", "65536:500000:200000"}, User: "70000:5",
	})
	const ids = "0 300000 65536 65536 500000 200000"
	if want := ids + " " + ids + " 70000 70000"; strings.Join(strings.Fields(got), " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestBindAttributes has the options of bind mounts that are attributes, and that the container cannot take away.
func TestBindAttributes(t *testing.T) {
	for options, want := range map[string]string{
		"noatime,noexec,nosuid,nodev": "rw,nosuid,nodev,noexec,noatime",
		"ro=false,noatime":            "rw,noatime", // the test's folder is on a filesystem with relatime
	} {
		got := output(t, run.Options{
			Args: shell("mount -o remount,bind,rw,exec,suid,dev,relatime /srv/d 2>/dev/null; " +
				"grep ' /srv/d ' /proc/self/mountinfo | cut -d' ' -f6"),
			Mounts: []string{"src=" + t.TempDir() + ",dst=/srv/d," + options},
		})
		if got != want+"\n" {
			t.Errorf("%s: %q, want %q", options, got, want)
		}
	}
}

// TestTargetIsLink mounts on symbolic links of the root filesystem, which lead nowhere else, whatever they are.
func TestTargetIsLink(t *testing.T) {
	root, outside := smallRootfs(t), t.TempDir()
	for link, target := range map[string]string{
		"var/run": "/run", "var/lock": "../run/lock", "escape": "../../../../.." + outside, "magic": "/proc/self/fd/0/x",
		"loop": "loop", "absolute": outside,
	} {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(link)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, "")
	mounts := []string{
		"src=" + file + ",dst=/var/run/a/passwd,ro", "src=" + file + ",dst=/var/lock/name,ro", "src=" + file + ",dst=/absolute/hosts,ro",
	}
	got := output(t, run.Options{
		Rootfs: root, Mounts: mounts, Tmpfs: []string{"/escape/tmpfs", "/var/lock"}, DeviceNodes: []string{"/dev/full:/var/run/full"},
		Args: shell("while read -r a b c d point rest; do case $point in /run*|/tmp*) echo $point;; esac; done < /proc/self/mountinfo"),
	})
	want := []string{"/run/a/passwd", "/run/full", "/run/lock", "/run/lock/name", outside + "/hosts", outside + "/tmpfs"}
	lines := strings.Fields(got)
	slices.Sort(lines)
	if slices.Sort(want); !slices.Equal(lines, want) {
		t.Errorf("mounted at %q, want %q", lines, want)
	}
	if entries, err := os.ReadDir(outside); len(entries) != 0 || err != nil {
		t.Errorf("outside: %v, %v", entries, err)
	}
	for target, want := range map[string]string{"/loop/x": "too many levels", "/magic": "make /magic for a mount"} {
		err := startError(t, run.Options{Rootfs: root, Args: shell("exit"), Tmpfs: []string{target}})
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// TestDeviceTwice has a device twice, which podman takes.
func TestDeviceTwice(t *testing.T) {
	got := output(t, run.Options{Args: shell("stat -c %t:%T /dev/one"), DeviceNodes: []string{"/dev/full:/dev/one", "/dev/full:/dev/one"}})
	if got != "1:7\n" {
		t.Errorf("got %q", got)
	}
}

// TestFewIDs has a container without the group of terminals, 5.
func TestFewIDs(t *testing.T) {
	got := output(t, run.Options{Args: shell("id -u; stat -c %g:%a /dev/pts/ptmx"), UIDMap: []string{"0:300000"}})
	if got != "0\n0:666\n" {
		t.Errorf("got %q", got)
	}
}

func many(n int, text func(int) string) (texts []string) {
	for i := range n {
		texts = append(texts, text(i))
	}
	return texts
}

func TestExtrasRefused(t *testing.T) {
	for want, options := range map[string]run.Options{
		"want NAME=SOFT[:HARD]":         {Ulimits: []string{"files=1"}},
		"above the hard one":            {Ulimits: []string{"nofile=2:1"}},
		"not an absolute path below":    {Tmpfs: []string{"/"}},
		`option "uid0"`:                 {Tmpfs: []string{"/x:uid0"}},
		"want bind or tmpfs":            {Mounts: []string{"type=volume,dst=/x"}},
		"not an absolute path of the":   {Mounts: []string{"src=x,dst=/x"}},
		"no such file":                  {Mounts: []string{"src=/nosuch,dst=/x"}},
		"it is not a device node":       {DeviceNodes: []string{"/etc/passwd"}},
		"absolute paths":                {DeviceNodes: []string{"null"}},
		`null:/dev/x:rwz": want SOURCE`: {DeviceNodes: []string{"/dev/null:/dev/x:rwz"}},
		`"/dev/null:": want SOURCE`:     {DeviceNodes: []string{"/dev/null:"}},
		`"/dev/null:rw:r": want SOURCE`: {DeviceNodes: []string{"/dev/null:rw:r"}},
		`null:/dev/x:r:w": want SOURCE`: {DeviceNodes: []string{"/dev/null:/dev/x:r:w"}},
		"want CONTAINER:HOST":           {UIDMap: []string{"0:1:2:3"}},
		"id 0 of the container":         {UIDMap: []string{"1:100000:5"}},
		"root of the host":              {GIDMap: []string{"0:0:10"}},
		"beyond the ids":                {GIDMap: []string{"0:100000:4294967295"}},
		"user id 11 is not one":         {UIDMap: []string{"0:300000:11"}, User: "11"},
		"user id 500 is not one of the container's, which are 0 to 99, 1000: map it with --uidmap": {
			UIDMap: []string{"0:300000:100", "1000:400000"}, User: "500"},
		"group id 65536 is not one": {User: "0:65536"},
		`"0:300000:10" and "5:400000:1": they overlap: both have id 5 of the container`: {
			UIDMap: []string{"0:300000:10", "5:400000:1"}},
		"they overlap: both have id 300009 of the host": {GIDMap: []string{"0:300000:10", "10:300009:1"}},
		"the kernel takes 340":                          {UIDMap: many(341, func(i int) string { return fmt.Sprintf("%d:%d", i, i+1) })},
		"of less than 4096 bytes":                       {UIDMap: many(335, func(i int) string { return fmt.Sprintf("%d:%d", i, i+300000) })},
		"option ro=1: want ro, ro=true or ro=false":     {Mounts: []string{"src=/etc,dst=/x,ro=1"}},
		"option ro=TRUE: want":                          {Mounts: []string{"src=/etc,dst=/x,ro=TRUE"}},
		"option readonly=maybe: want":                   {Mounts: []string{"src=/etc,dst=/x,readonly=maybe"}},
		"option readonly=: want":                        {Mounts: []string{"src=/etc,dst=/x,readonly="}},
		"option rw=yes: want":                           {Mounts: []string{"src=/etc,dst=/x,rw=yes"}},
		`"noexec=false" is not known`:                   {Mounts: []string{"src=/etc,dst=/x,noexec=false"}},
		`"idmap=false" is not known`:                    {Mounts: []string{"src=/etc,dst=/x,idmap=false"}},
		`"ro=false" is not known`:                       {Tmpfs: []string{"/x:ro=false"}},
		`"ro" and "rw" exclude each other`:              {Mounts: []string{"src=/etc,dst=/x,ro,rw"}},
		`"exec" and "noexec" exclude each other`:        {Tmpfs: []string{"/x:exec,noexec"}},
		`"ro" is there twice`:                           {Mounts: []string{"src=/etc,dst=/x,ro,ro"}},
		`"src=/a" and "source=/b" exclude`:              {Mounts: []string{"src=/a,source=/b,dst=/x"}},
		`"type=bind" and "type=tmpfs" exclude`:          {Mounts: []string{"type=bind,type=tmpfs,dst=/x"}},
		`"size=1m" and "nr_blocks=4" exclude`:           {Tmpfs: []string{"/x:size=1m,nr_blocks=4"}},
		`"tmpfs-size=1m" is one of a tmpfs`:             {Mounts: []string{"src=/etc,dst=/x,tmpfs-size=1m"}},
		`"idmap" is one of a bind mount`:                {Mounts: []string{"type=tmpfs,dst=/x,idmap"}},
		`"size=1x": want size=VALUE`:                    {Tmpfs: []string{"/x:size=1x"}},
		`"mode=999": want mode=VALUE`:                   {Tmpfs: []string{"/x:mode=999"}},
		"mount a tmpfs at /x: option uid=70000: the container has the IDs 0 to 65535": {Tmpfs: []string{"/x:uid=70000"}},
		`tmpfs "/x" and mount "src=/etc,dst=/x/" have the same target /x`: {
			Tmpfs: []string{"/x"}, Mounts: []string{"src=/etc,dst=/x/"}},
		`device "/dev/null:/dev/x" and device "/dev/zero:/dev/x" have the same target /dev/x`: {
			DeviceNodes: []string{"/dev/null:/dev/x", "/dev/zero:/dev/x"}},
		`device "/dev/full" and device "/dev/full:r" have the same target`: {DeviceNodes: []string{"/dev/full", "/dev/full:r"}},
		"the limit core is there twice":                                    {Ulimits: []string{"core=0", "core=5"}},
	} {
		t.Run(want, func(t *testing.T) {
			options.Args = []string{"/bin/true"}
			if err := startError(t, options); !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// readOnlyCopy mounts a directory once more, read-only, until the end of the test.
func readOnlyCopy(t *testing.T, dir string) string {
	t.Helper()
	sdktest.RequireRoot(t)
	at := t.TempDir()
	if err := unix.Mount(dir, at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	flags := uintptr(unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := errors.Join(unix.Mount("", at, "", unix.MS_PRIVATE|unix.MS_REC, ""), unix.Mount("", at, "", flags, "")); err != nil {
		t.Fatal(err)
	}
	return at
}

// TestAttributesOfTheHostHold has what the host's own mounts forbid, also where no option says so: the container's root
// cannot change it, nor see what is covered there.
func TestAttributesOfTheHostHold(t *testing.T) {
	sdktest.RequireRoot(t)
	dir := t.TempDir()
	writeFile(t, dir+"/sub/covered", "covered")
	err := errors.Join(unix.Mount("tmpfs", dir+"/sub", "tmpfs", 0, ""), os.Chmod(dir, 0o777))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir+"/sub", unix.MNT_DETACH) })
	const script = `exec 2>/dev/null
		mount -o remount,bind,rw $d && echo rw; mount -o remount,bind,ro,dev,exec $d && echo exec
		(echo x >$d/new) && echo wrote; umount -l $d/sub && echo uncovered; echo tried`
	got := finish(t, run.Options{Args: shell("d=/srv/d; " + script), Mounts: []string{"src=" + readOnlyCopy(t, dir) + ",dst=/srv/d"}})
	if got.stdout != "tried\n" {
		t.Errorf("a bind mount: got %q", got.stdout)
	}

	root := smallRootfs(t)
	for _, name := range []string{"proc", "sys", "dev", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	at := readOnlyCopy(t, root)
	if err := unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil { // its programs are executed
		t.Fatal(err)
	}
	got = finish(t, run.Options{
		Rootfs: at, Args: shell("mount -t tmpfs t /tmp && echo can; mount -o remount,bind,rw /; echo x >/new && echo wrote"),
	})
	if got.stdout != "can\n" {
		t.Errorf("the root filesystem: got %q", got.stdout)
	}
}

// TestStageIsCleared has the thread that has started a container keep no mount of the host.
func TestStageIsCleared(t *testing.T) {
	container := start(t, run.Options{Args: shell("read x"), Stdin: openPipe(t), Mounts: []string{"src=/usr,dst=/srv/usr,ro"}})
	files, err := filepath.Glob("/proc/self/task/*/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	staged := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		mounts := strings.Split(strings.TrimSpace(string(text)), "\n")
		if strings.Contains(mounts[0], " intercede ") || len(mounts) < 3 {
			staged++
		}
		if strings.Contains(string(text), ".intercede-") {
			t.Errorf("%s:\n%s", file, text)
		}
	}
	if staged == 0 { // others may be ending
		t.Error("no thread is in a stage")
	}
	if err := container.Close(); err != nil {
		t.Error(err)
	}
}

// TestCgroupsAreOwn has the container see its own cgroups, and below these none of the host's.
func TestCgroupsAreOwn(t *testing.T) {
	got := output(t, run.Options{Args: shell(`cd /sys/fs/cgroup && mkdir own && rmdir own && cd / && umount /sys/fs/cgroup
		ls /sys/fs/cgroup; grep -c ' /sys' /proc/self/mountinfo`)})
	if got != "1\n" {
		t.Errorf("got %q", got)
	}
}
