package ociruntime

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the golden files anew")

const socket = "/run/intercede/intercede.sock"

// mknod notifies character devices.
var mknod = &control.Interception{Socket: socket, Manifests: control.Manifests{{
	Name: "mknod", Syscalls: []*wire.Syscall{{Name: "mknod", When: []*wire.Match{{
		All: []*wire.Condition{{Arg: 1, Mask: unix.S_IFMT, Value: unix.S_IFCHR}},
	}}}},
}}}

func notTaken() bool { return false }

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

func readBack(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// userNamespace is a config.json with a user namespace and this linux.seccomp.
func userNamespace(seccomp string) string {
	return `{"ociVersion": "1.0.2", "annotations": {"k": "<v>"}, "linux": {"namespaces": [{"type": "user"}], "seccomp": ` +
		seccomp + `}, "x": 1.50}`
}

func TestInterceptRefuses(t *testing.T) {
	for name, test := range map[string]struct{ seccomp, want string }{
		"a listener of its own": {`{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/other"}`, `it has a listenerPath, "/run/other"`},
		"a rule that notifies": {`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}`,
			"its action is SCMP_ACT_NOTIFY"},
		"a listener without more": {`{"listenerPath": "/run/other"}`, "no defaultAction"},
		"rules that collide": {`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mknod"], "action": "SCMP_ACT_ERRNO", ` +
			`"args": [{"index": 2, "value": 1, "op": "SCMP_CMP_EQ"}]}]}`, "compares arguments"},
		"no object": {`"x"`, "linux.seccomp"},
	} {
		t.Run(name, func(t *testing.T) {
			text := userNamespace(test.seccomp)
			path := writeConfig(t, text)
			f, err := readConfigFile(path)
			if err == nil {
				err = f.intercept(mknod, notTaken)
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v, want %q and the file", err, test.want)
			}
			if readBack(t, path) != text {
				t.Error("the file was changed")
			}
		})
	}
}

// What needs nothing is not written at all.
func TestInterceptLeavesAlone(t *testing.T) {
	for name, test := range map[string]struct {
		seccomp string
		wanted  *control.Interception
	}{
		"nothing wanted": {"null", &control.Interception{Socket: socket}},
		"nothing wanted, and a listener": {`{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/other"}`,
			&control.Interception{Socket: socket}},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeConfig(t, userNamespace(test.seccomp))
			before, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			f, err := readConfigFile(path)
			if err != nil {
				t.Fatal(err)
			}
			asked := false
			if err := f.intercept(test.wanted, func() bool { asked = true; return true }); err != nil {
				t.Fatal(err)
			}
			if asked {
				t.Error("the runtime was asked")
			}
			after, err := os.Stat(path)
			if err != nil || !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
				t.Errorf("the file was written: %v", err)
			}
		})
	}
}

// A second start of a bundle finds what the first one made: it writes the file if something else is wanted now.
func TestInterceptTwice(t *testing.T) {
	manifest := &wire.Manifest{Name: "sysinfo", Syscalls: []*wire.Syscall{{Name: "sysinfo"}}}
	sysinfo := &control.Interception{Socket: socket, Manifests: control.Manifests{manifest}}
	path := writeConfig(t, userNamespace("{}"))
	intercept := func(wanted *control.Interception) (text string, info os.FileInfo) {
		f, err := readConfigFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.intercept(wanted, notTaken); err != nil {
			t.Fatal(err)
		}
		if info, err = os.Stat(path); err != nil {
			t.Fatal(err)
		}
		return readBack(t, path), info
	}
	first, before := intercept(mknod)
	second, after := intercept(mknod)
	if first != second || !strings.Contains(first, socket) || !os.SameFile(before, after) {
		t.Errorf("%s\nthen %s", first, second)
	}
	third, _ := intercept(sysinfo)
	if want := strings.Contains(third, `"sysinfo"`) && !strings.Contains(third, `"mknod"`); !want {
		t.Errorf("for sysinfo: %s", third)
	}
}

func TestCheckAnnotations(t *testing.T) {
	for size, good := range map[int]bool{0: true, maxAnnotations - 8: true, maxAnnotations - 7: false, 15 << 20: false} {
		f := &configFile{path: "config.json"}
		f.spec.Annotations = map[string]string{"a": strings.Repeat("x", size)}
		if err := f.checkAnnotations(); (err == nil) != good {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestInterceptKeepsOwnerAndMode(t *testing.T) {
	path := writeConfig(t, userNamespace("null"))
	if os.Getuid() == 0 {
		if err := os.Chown(path, 1234, 4321); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := readConfigFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.intercept(mknod, notTaken); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	was, is := before.Sys().(*syscall.Stat_t), after.Sys().(*syscall.Stat_t)
	if was.Mode != is.Mode || was.Uid != is.Uid || was.Gid != is.Gid || was.Ino == is.Ino {
		t.Errorf("was %+v, is %+v", was, is)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestReadConfigFileRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(dir+"/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	large := writeConfig(t, "")
	if err := os.Truncate(large, maxConfig+1); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ path, want string }{
		"missing":   {dir + "/config.json", "no such file"},
		"a folder":  {dir, "not a regular file"},
		"a FIFO":    {dir + "/fifo", "not a regular file"},
		"no JSON":   {writeConfig(t, "{"), "unexpected end"},
		"two":       {writeConfig(t, "{}{}"), "invalid character"},
		"too large": {large, "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readConfigFile(test.path)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.path) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func TestPrivileged(t *testing.T) {
	initial, err := linux.InHostUserNamespace()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		text string
		want bool
	}{
		"new user namespace":      {`{"linux": {"namespaces": [{"type": "pid"}, {"type": "user"}]}}`, false},
		"the host's":              {`{"linux": {"namespaces": [{"type": "user", "path": "/proc/self/ns/user"}]}}`, initial},
		"one that is not there":   {`{"linux": {"namespaces": [{"type": "user", "path": "/nonexistent"}]}}`, false},
		"none":                    {`{"linux": {"namespaces": [{"type": "pid"}]}}`, initial},
		"no namespaces":           {`{"linux": {}}`, initial},
		"a container of no Linux": {`{}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := readConfigFile(writeConfig(t, test.text))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := f.privileged(); err != nil || got != test.want {
				t.Errorf("%v, %v; want %v", got, err, test.want)
			}
		})
	}
}

func TestDescribe(t *testing.T) {
	text := `{"annotations": {"io.kubernetes.cri.container-name": "c"}, "linux": {"cgroupsPath": "kubepods-pod1.slice:cri-containerd:abc"}}`
	f, err := readConfigFile(writeConfig(t, text))
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(f.describe("abc"))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"id":"abc","runtime":"` + config.RuntimeOCI + `","annotations":{"io.kubernetes.cri.container-name":"c"},` +
		`"cgroups":["/kubepods.slice/kubepods-pod1.slice/cri-containerd-abc.scope"]}`
	if string(got) != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestCgroupOf(t *testing.T) {
	for path, want := range map[string]string{
		"":                            "",
		"relative/path":               "",
		"/docker/abc":                 "/docker/abc",
		"/a/../b/":                    "/b",
		"system.slice:docker:abc":     "/system.slice/docker-abc.scope",
		"a-b-c.slice::abc":            "/a.slice/a-b.slice/a-b-c.slice/abc.scope",
		"-.slice:crio:abc":            "/crio-abc.scope",
		":docker:abc":                 "",
		"system.slice:docker:":        "",
		"system.slice:docker:abc:def": "",
	} {
		t.Run(path, func(t *testing.T) {
			if got := cgroupOf(path); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}
