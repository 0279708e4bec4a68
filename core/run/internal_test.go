package run

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/intercede/intercede/internal/cgroup"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/mountinfo"
	"github.com/intercede/intercede/internal/require"
	"github.com/intercede/intercede/sdk/target"
	sysuser "github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

func TestChooseHostID(t *testing.T) {
	const last = lastHostID
	for name, test := range map[string]struct {
		uids, gids string
		want       uint32
	}{
		"empty":           {"", "", last},
		"others only":     {"ann:200000:65536\n", "ann:200000:65536\n", last},
		"root":            {"ann:200000:65536\nroot:300000:65536\n", "root:300000:65536\n", 300000},
		"root by number":  {"0:300000:100000\n", "0:300000:100000\n", 300000},
		"containers":      {"containers:2147483647:2147483648\n", "containers:2147483647:2147483648\n", 2147483647},
		"gids elsewhere":  {"root:300000:65536\nroot:400000:65536\n", "root:380000:100000\n", 400000},
		"gids too few":    {"root:300000:65536\n", "root:300000:65535\n", last},
		"gids of another": {"root:300000:65536\n", "ann:300000:65536\n", last},
		"too short":       {"root:300000:1000\ncontainers:400000:65536\n", "root:300000:1000000\n", 400000},
		"malformed":       {"root:x:65536\nroot:1\n\nroot:500000:65536", "root:500000:65536", 500000},
		"never host root": {"root:0:65536\n", "root:0:65536\n", last},
		"no room":         {"root:4294960000:65536\n", "root:4294960000:65536\n", last},
		"last is taken":   {"ann:1879000000:1\n", "ben:1878900000:50000\n", last - 3*idCount},
	} {
		t.Run(name, func(t *testing.T) {
			uids, err1 := sysuser.ParseSubIDFilter(strings.NewReader(test.uids), isRange)
			gids, err2 := sysuser.ParseSubIDFilter(strings.NewReader(test.gids), isRange)
			if got := chooseHostID(uids, gids); got != test.want || err1 != nil || err2 != nil {
				t.Errorf("got %d, %v, %v; want %d", got, err1, err2, test.want)
			}
		})
	}
}

func TestMapCovers(t *testing.T) {
	const nested = "         0     100000      65536\n     65536     200000     200000\n"
	extents, err := sysuser.ParseIDMap(strings.NewReader(nested))
	if err != nil {
		t.Fatal(err)
	}
	for first, want := range map[int64]bool{0: true, 1: false, 65535: false, 65536: true, 200000: true, 200001: false} {
		if got := mapCovers(extents, first, idCount); got != want {
			t.Errorf("from %d: %v, want %v", first, got, want)
		}
	}
	if !mapCovers([]sysuser.IDMap{{Count: 4294967295}}, 100000, idCount) {
		t.Error("the initial namespace's map does not cover 100000")
	}
}

func TestMountOf(t *testing.T) {
	mounts := []mountinfo.Mount{{Point: "/"}, {Point: "/srv"}, {Point: "/srv/a", Type: "ext4"}, {Point: "/srv/a", Type: "xfs"}}
	for path, want := range map[string]mountinfo.Mount{
		"/srvx": {Point: "/"}, "/srv/ab": {Point: "/srv"}, "/srv/a/b": {Point: "/srv/a", Type: "xfs"},
	} {
		if got, ok := mountOf(mounts, path); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is on %+v, want %+v", path, got, want)
		}
	}
}

func TestFindHierarchies(t *testing.T) {
	plain, withMemory := t.TempDir(), t.TempDir()
	if err := os.WriteFile(withMemory+"/cgroup.controllers", []byte("cpu memory\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	at := func(top, path string) cgroup.Folder { return cgroup.Folder{Path: top + path, Top: top} }
	type own = map[string]cgroup.Folder
	for name, test := range map[string]struct {
		own     own
		unified string // own cgroups; "": none
		memory  string
		v1      string // joined
	}{
		"hybrid": {own{"pids": at("/cg/pids", "/p"), "memory,hugetlb": at("/cg/memory", "/user/a"),
			"cpu": at("/cg/cpu", ""), "": at(plain, "/x")},
			plain + "/x", "/cg/memory/user/a", "/cg/cpu /cg/memory/user/a /cg/pids/p"},
		"v1's is not mounted": {own{"cpu": at("/cg/cpu", "/a"), "": at(plain, "/x")}, plain + "/x", "", "/cg/cpu/a"},
		"v2":                  {own{"": at(withMemory, "/user.slice/a")}, withMemory + "/user.slice/a", withMemory + "/user.slice/a", ""},
		"no memory":           {own{"": at(plain, "")}, plain, "", ""},
		"v1 alone":            {own{"memory": at("/cg/memory", "")}, "", "", ""},
		"not mounted":         {own{}, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := findHierarchies(test.own)
			if test.unified == "" {
				if err == nil || !strings.Contains(err.Error(), "mount -t cgroup2") {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || got.unified.Path != test.unified {
				t.Fatalf("got %+v, %v; want %q", got, err, test.unified)
			}
			if (got.memory == nil) != (test.memory == "") || got.memory != nil && got.memory.Path != test.memory {
				t.Errorf("memory %+v, want %q", got.memory, test.memory)
			}
			v1 := []string{}
			for _, folder := range got.v1 {
				v1 = append(v1, folder.Path)
			}
			if strings.Join(v1, " ") != test.v1 {
				t.Errorf("version 1: %q, want %q", v1, test.v1)
			}
		})
	}
}

func TestDelegatedParent(t *testing.T) {
	root := t.TempDir()
	for path, text := range map[string]string{
		"cgroup.subtree_control":                  "cpu memory",
		"user.slice/cgroup.subtree_control":       "cpu",
		"user.slice/scope/cgroup.subtree_control": "",
		"user.slice/scope/cgroup.controllers":     "cpu",
		"lone/cgroup.subtree_control":             "",
		"lone/cgroup.controllers":                 "memory",
		"bare/cgroup.subtree_control":             "",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct{ point, own, want string }{
		"nearest ancestor":         {root, root + "/user.slice/scope", root},
		"own":                      {root, root, root},
		"not above the mount":      {root + "/user.slice", root + "/user.slice/scope", ""},
		"enabled where there's it": {root + "/lone", root + "/lone", root + "/lone"},
		"none":                     {root + "/bare", root + "/bare", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := delegatedParent(&cgroup.Folder{Top: test.point, Path: test.own})
			if got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("got %q, %v; want %q", got, err, test.want)
			}
		})
	}
	written, err := os.ReadFile(root + "/lone/cgroup.subtree_control")
	if string(written) != "+memory" || err != nil {
		t.Errorf("written %q, %v", written, err)
	}
}

func TestParseCapabilities(t *testing.T) {
	for name, want := range map[string]target.Capability{
		"CHOWN": unix.CAP_CHOWN, "SYS_ADMIN": unix.CAP_SYS_ADMIN, "MKNOD": unix.CAP_MKNOD, "SYSLOG": unix.CAP_SYSLOG,
		"CAP_SETFCAP": unix.CAP_SETFCAP, "Cap_Bpf": unix.CAP_BPF,
	} {
		if set, err := parseCapabilities([]string{name}); set != target.CapabilitySet(want) || err != nil {
			t.Errorf("%s: %#x, %v; want bit %d", name, uint64(set), err, want)
		}
	}
}

func TestWriteErrno(t *testing.T) {
	for _, errno := range []syscall.Errno{unix.EPERM, unix.ENOEXEC, 4095} {
		var l launch
		if err := l.prepareMessages(); err != nil {
			t.Fatal(err)
		}
		writeErrno(l.digits, errno)
		ours, theirs, err := linux.Socketpair(unix.SOCK_STREAM)
		if err != nil {
			t.Fatal(err)
		}
		defer linux.CloseAll(ours, theirs)
		if errno := l.failure.Send(uintptr(ours)); errno != 0 {
			t.Fatal(errno)
		}
		var got report
		if _, err := receiveMessage(theirs, &got); got.ExecErrno != errno || err != nil {
			t.Errorf("got %d, %v; want %d", got.ExecErrno, err, errno)
		}
	}
}

func TestMessages(t *testing.T) {
	ours, theirs, err := linux.Socketpair(unix.SOCK_STREAM)
	if err != nil {
		t.Fatal(err)
	}
	defer linux.CloseAll(ours, theirs)
	long := request{Args: []string{strings.Repeat("x", 3<<20)}}
	sent := make(chan error, 1)
	go func() { sent <- sendMessage(ours, long, 0, 1) }()
	var got request
	descriptors, err := receiveMessage(theirs, &got)
	if err != nil || len(descriptors) != 2 || got.Args[0] != long.Args[0] {
		t.Errorf("%d descriptors, %v", len(descriptors), err)
	}
	linux.CloseAll(descriptors...)
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestMergeEnv(t *testing.T) {
	got := mergeEnv([]string{"A=1", "B=2"}, []string{"C=3", "A=4", "C=5"})
	if want := []string{"A=4", "B=2", "C=5"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestExplainClone(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{
		unix.ENOSPC: "user.max_user_namespaces",
		unix.EPERM:  "user namespaces are not allowed here",
		unix.EINVAL: "CONFIG_USER_NS",
		unix.EACCES: "chmod a+rx",
		unix.ENOMEM: "start the container: cannot allocate memory",
	} {
		if got := explainClone(errno).Error(); !strings.Contains(got, want) {
			t.Errorf("%v: %q, want %q", errno, got, want)
		}
	}
}

// TestHideHost hides mounts on an empty directory, on one that a mount hides, within another mount, and on a file.
func TestHideHost(t *testing.T) {
	require.Root(t)
	dir := t.TempDir()
	for _, path := range []string{"empty", "hidden/secret", "both/inner/secret"} {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/file", []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	linux.OnThread(func() {
		tmpfs := func(path string) error { return unix.Mount("tmpfs", filepath.Join(dir, path), "tmpfs", 0, "") }
		err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			tmpfs("empty"), tmpfs("hidden"), os.Mkdir(dir+"/hidden/shown", 0o755), tmpfs("both/inner"), tmpfs("both"), tmpfs("both"),
			os.Mkdir(dir+"/both/inner", 0o755), tmpfs("both/inner"), unix.Mount("/dev/null", dir+"/file", "", unix.MS_BIND, ""))
		if err == nil {
			err = hideHost(dir)
		}
		if err != nil {
			t.Error(err)
			return
		}
		for path, want := range map[string]bool{"empty": false, "hidden": true, "both": true} {
			var is, above unix.Stat_t
			entries, err := os.ReadDir(filepath.Join(dir, path))
			if err := errors.Join(err, unix.Stat(filepath.Join(dir, path), &is), unix.Stat(dir, &above)); err != nil {
				t.Error(err)
			}
			if covered := is.Dev != above.Dev; len(entries) > 0 || covered != want {
				t.Errorf("%s has %v, covered: %v", path, entries, covered)
			}
		}
		if text, err := os.ReadFile(dir + "/file"); len(text) != 0 || err != nil {
			t.Errorf("the file has %q, %v", text, err)
		}
	})
}
