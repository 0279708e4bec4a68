package stage

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/intercede/intercede/internal/require"
)

// runtimes are the commands of OCI runtimes. crun refuses hybrid cgroups that have a controller in the unified tree,
// so it gets to see none; it makes a folder there all the same.
var runtimes = map[string][]string{
	"runc": {"runc"},
	"crun": {"unshare", "-m", "--propagation", "private", "sh", "-c", `
		[ ! -d /sys/fs/cgroup/unified ] || mount -t tmpfs tmpfs /sys/fs/cgroup/unified
		exec crun "$@"`, "sh"},
}

// Runtimes are the names of OCI runtimes.
var Runtimes = slices.Sorted(maps.Keys(runtimes))

// OCI says how a container of an OCI runtime is made.
type OCI struct {
	Runtime string
	Named   bool // to the command that makes the profile, which then has the filter flags that the runtime takes
}

// Prepare puts what a container needs into its root filesystem; nil: nothing.
type Prepare func(root string)

func (p Prepare) in(t *Test, root string) {
	t.Helper()
	if p != nil {
		p(root)
	}
}

// OCI is the command line that runs a program of testdata as a container of an OCI runtime, which ends with the
// program.
func (d *Daemon) OCI(o OCI, prepare Prepare, program string, args ...string) *exec.Cmd {
	t := d.test
	t.Helper()
	for _, needed := range []string{o.Runtime, "unshare"} {
		if _, err := exec.LookPath(needed); err != nil {
			require.Lacking(t, "%s is not installed: run scripts/install-packages", needed)
		}
	}
	dir, err := os.MkdirTemp("", "ic")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(dir)
	command := append(runtimes[o.Runtime], "--root", dir+"/state")
	t.Cleanup(func() {
		exec.Command(command[0], append(command[1:], "delete", "--force", name)...).Run() // it may have been deleted
		os.RemoveAll(dir)
	})
	flags := []string{"--format", "oci"}
	if o.Named {
		flags = append(flags, "--runtime", o.Runtime)
	}
	profile, err := d.Command("profile", flags...).Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(bundle(name, json.RawMessage(profile), append([]string{"/bin/" + program}, args...)))
	root := dir + "/rootfs"
	for _, folder := range []string{root + "/bin", root + "/dev", root + "/proc", root + "/tmp"} {
		err = errors.Join(err, os.MkdirAll(folder, 0o755))
	}
	err = errors.Join(err, os.Chmod(dir, 0o755), os.WriteFile(dir+"/config.json", text, 0o644),
		install(Program(program), root+"/bin/"+program))
	if err != nil {
		t.Fatal(err)
	}
	prepare.in(t, root)
	t.Command("chown", "-R", fmt.Sprintf("%d:%d", hostID, hostID), root)
	return exec.Command(command[0], append(command[1:], "run", "--bundle", dir, name)...)
}

type object = map[string]any

// bundle is a config.json of an unprivileged container with the capabilities that the tests use.
func bundle(name string, profile json.RawMessage, args []string) object {
	all := []string{
		"CAP_MKNOD", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_ADMIN",
		"CAP_SYS_NICE",
	}
	ids := []object{{"containerID": 0, "hostID": hostID, "size": 65536}}
	var namespaces []object
	for _, kind := range []string{"user", "pid", "mount", "uts", "ipc", "network"} {
		namespaces = append(namespaces, object{"type": kind})
	}
	return object{
		"ociVersion": "1.0.2",
		"process": object{
			"args": args, "env": []string{"PATH=/bin"}, "cwd": "/", "user": object{"uid": 0, "gid": 0},
			"capabilities": object{"bounding": all, "effective": all, "permitted": all},
		},
		"root":   object{"path": "rootfs"},
		"mounts": []object{{"destination": "/proc", "type": "proc", "source": "proc"}},
		"linux": object{
			"namespaces": namespaces, "uidMappings": ids, "gidMappings": ids, "cgroupsPath": "/" + name, "seccomp": profile,
			"resources": object{"devices": []object{{"allow": true, "access": "rwm"}}},
		},
	}
}
