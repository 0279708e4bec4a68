package ociruntime

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/intercede/intercede/internal/require"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// devConfig is a config.json with these mounts.
func devConfig(mounts string) string {
	return `{"root": {"path": "rootfs"}, "mounts": ` + mounts + `, "linux": {"namespaces": [{"type": "user"}, {"type": "mount"}]}, "x": 1.50}`
}

const (
	procMount = `{"destination": "/proc", "type": "proc", "source": "proc"}`
	ptsMount  = `{"destination": "/dev/pts", "type": "devpts", "source": "devpts"}`
	usualDev  = `{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}`
)

func list(mounts ...string) string { return "[" + strings.Join(mounts, ", ") + "]" }

func dev(options string) string {
	return list(`{"destination": "/dev", "type": "tmpfs", "source": "dev", "options": [` + options + `]}`)
}

func TestPlanDev(t *testing.T) {
	for name, test := range map[string]struct {
		mounts     string
		parameters map[string]string
		attributes int
	}{
		"the usual one": {list(procMount, usualDev, ptsMount),
			map[string]string{"source": "tmpfs", "mode": "755", "size": "65536k"}, unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_STRICTATIME},
		"all that is known": {dev(`"rw", "nosuid", "noexec", "noatime", "mode=0700", "size=1m", "nr_inodes=9", "nr_blocks=8"`),
			map[string]string{"source": "dev", "mode": "0700", "size": "1m", "nr_inodes": "9", "nr_blocks": "8"},
			unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NOATIME},
		"little": {dev(`"mode=755"`), map[string]string{"source": "dev", "mode": "755"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			text := devConfig(test.mounts)
			plan, err := planDev([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(plan.parameters, test.parameters) || plan.attributes != test.attributes {
				t.Errorf("%v, %#x", plan.parameters, plan.attributes)
			}
			if strings.Contains(string(plan.text), `"/dev"`) || !strings.Contains(string(plan.text), `"x": 1.50`) {
				t.Errorf("the runtime reads %s", plan.text)
			}
		})
	}
}

// What the wrapper does not understand in full is the runtime's to mount.
func TestPlanDevRefuses(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"no /dev":            {devConfig(list(procMount)), "nothing is mounted on /dev"},
		"no mounts":          {`{"root": {"path": "rootfs"}, "linux": {"namespaces": [{"type": "mount"}]}}`, "nothing is mounted on /dev"},
		"the host's /dev":    {devConfig(list(`{"destination": "/dev", "type": "bind", "source": "/dev"}`)), "not a tmpfs"},
		"a bound tmpfs":      {devConfig(dev(`"mode=755", "rbind"`)), `the option "rbind"`},
		"an idmapped one":    {devConfig(list(strings.Replace(usualDev, "{", `{"uidMappings": [{}], `, 1))), "not a tmpfs"},
		"nodev":              {devConfig(dev(`"mode=755", "nodev"`)), `the option "nodev"`},
		"read-only":          {devConfig(dev(`"mode=755", "ro"`)), `the option "ro"`},
		"a copy of what is":  {devConfig(dev(`"mode=755", "tmpcopyup"`)), `the option "tmpcopyup"`},
		"an owner":           {devConfig(dev(`"mode=755", "uid=5"`)), `the option "uid=5"`},
		"propagation":        {devConfig(dev(`"mode=755", "rshared"`)), `the option "rshared"`},
		"an empty size":      {devConfig(dev(`"mode=755", "size="`)), `the option "size="`},
		"no mode":            {devConfig(dev(`"nosuid"`)), "no mode"},
		"two":                {devConfig(list(usualDev, usualDev)), "two mounts"},
		"two by other names": {devConfig(list(usualDev, strings.Replace(usualDev, "/dev", "dev/../dev/", 1))), "two mounts"},
		"below, before":      {devConfig(list(ptsMount, usualDev)), "/dev/pts is mounted before /dev"},
		"on the root":        {devConfig(list(usualDev, strings.Replace(procMount, "/proc", "/", 1))), "mounted on /"},
		"no root":            {`{"linux": {"namespaces": [{"type": "mount"}]}}`, "no root filesystem"},
		"the host's mounts":  {strings.Replace(devConfig(list(usualDev)), `, {"type": "mount"}`, "", 1), "no mount namespace of its own"},
		"others' mounts": {strings.Replace(devConfig(list(usualDev)), `{"type": "mount"}`, `{"type": "mount", "path": "/p"}`, 1),
			"no mount namespace of its own"},
		"a list that is there twice": {strings.Replace(devConfig(list(usualDev)), `"x"`, `"Mounts"`, 1), "mounts"},
		"no JSON as it should be":    {devConfig(`{}`), "cannot unmarshal"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := planDev([]byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func TestRemoveMount(t *testing.T) {
	for name, test := range map[string]struct {
		text  string
		index int
		want  string
	}{
		"the first": {`{ "mounts" : [{"a": 1}, {"b":2}] , "c":1e2}`, 0, `{ "mounts" : [{"b":2}] , "c":1e2}`},
		"the last":  {`{"mounts":[{"a":1},{"b":2.50}]}`, 1, `{"mounts":[{"a":1}]}`},
		"the only":  {`{"mounts":[{"a":1}]}`, 0, `{"mounts":[]}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := removeMount([]byte(test.text), test.index)
			if err != nil || string(got) != test.want || !json.Valid(got) {
				t.Errorf("%s, %v", got, err)
			}
		})
	}
}

func TestMakesNodes(t *testing.T) {
	for name, want := range map[string]bool{"mknod": true, "mknodat": true, "mount": false} {
		manifests := []*wire.Manifest{{Syscalls: []*wire.Syscall{{Name: "getppid"}}}, {Syscalls: []*wire.Syscall{{Name: "uname"}, {Name: name}}}}
		if got := makesNodes(manifests); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestRootIDs(t *testing.T) {
	for name, test := range map[string]struct {
		maps, want string
	}{
		"mapped": {`"uidMappings": [{"containerID": 1, "hostID": 5, "size": 9}, {"containerID": 0, "hostID": 100, "size": 1}],
			"gidMappings": [{"containerID": 0, "hostID": 200, "size": 1}]`, "100 200 <nil>"},
		"no group": {`"uidMappings": [{"containerID": 0, "hostID": 100, "size": 1}]`, "0 0 user or group 0 is not mapped"},
		"no user":  {`"gidMappings": [{"containerID": 0, "hostID": 100, "size": 1}]`, "0 0 user or group 0 is not mapped"},
		"empty": {`"uidMappings": [{"containerID": 0, "hostID": 100, "size": 0}],
			"gidMappings": [{"containerID": 0, "hostID": 200, "size": 1}]`, "0 0 user or group 0 is not mapped"},
	} {
		t.Run(name, func(t *testing.T) {
			var spec devSpec
			if err := json.Unmarshal([]byte(`{"linux": {"namespaces": [{"type": "user"}], `+test.maps+`}}`), &spec); err != nil {
				t.Fatal(err)
			}
			uid, gid, err := spec.rootIDs()
			if got := fmt.Sprint(uid, gid, err); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// The kernel tells whom a user namespace maps its root to.
func TestRootIDsOf(t *testing.T) {
	require.Root(t)
	require.Kernel(t, "6.3", "idmapped mounts of tmpfs")
	for name, test := range map[string]struct {
		first int // of the namespace's IDs
		want  string
	}{
		"mapped":     {0, "100000 200000 <nil>"},
		"not mapped": {1, "0 0 user or group 0 is not mapped"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("sleep", "1000")
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  unix.CLONE_NEWUSER,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: test.first, HostID: 100000, Size: 10}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: test.first, HostID: 200000, Size: 10}},
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { cmd.Process.Kill(); cmd.Wait() }()
			spec := devSpec{}
			text := fmt.Sprintf(`{"linux": {"namespaces": [{"type": "user", "path": "/proc/%d/ns/user"}]}}`, cmd.Process.Pid)
			if err := json.Unmarshal([]byte(text), &spec); err != nil {
				t.Fatal(err)
			}
			uid, gid, err := spec.rootIDs()
			if got := fmt.Sprint(uid, gid, err); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
	if _, _, err := rootIDsOf("/proc/self/ns/user"); err == nil {
		t.Error("the host's user namespace, which maps nothing, is taken")
	}
	if _, _, err := rootIDsOf("/nonexistent"); err == nil {
		t.Error("a missing user namespace is taken")
	}
}

// The root filesystem is the host's: without its /dev the runtime could do nothing.
func TestOpenDevOfHost(t *testing.T) {
	if dev, err := openDev("/"); err == nil || !strings.Contains(err.Error(), "the host's /dev") {
		t.Errorf("got %v, %v", dev, err)
	}
	root := t.TempDir()
	if err := os.Mkdir(root+"/dev", 0o755); err != nil {
		t.Fatal(err)
	}
	dev, err := openDev(root)
	if err != nil {
		t.Fatal(err)
	}
	dev.Close()
}
