package attacks

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/intercede/intercede/internal/require"
)

// runtimes are the commands of OCI runtimes. crun refuses hybrid cgroups that have a controller in the unified tree,
// so it gets to see none.
var runtimes = map[string][]string{
	"runc": {"runc"},
	"crun": {"unshare", "-m", "--propagation", "private", "sh", "-c", "umount /sys/fs/cgroup/unified 2>/dev/null; exec crun \"$@\"", "sh"},
}

// oci is the command line that runs an attacker's program as a container of an OCI runtime, which ends with the
// program.
func (d *daemon) oci(runtime, program string, args ...string) *exec.Cmd {
	a := d.attack
	a.Helper()
	for _, needed := range []string{runtime, "unshare"} {
		if _, err := exec.LookPath(needed); err != nil {
			require.Lacking(a, "%s is not installed: run scripts/install-packages", needed)
		}
	}
	dir, err := os.MkdirTemp("", "ic")
	if err != nil {
		a.Fatal(err)
	}
	name := filepath.Base(dir)
	command := append(runtimes[runtime], "--root", dir+"/state")
	a.Cleanup(func() {
		exec.Command(command[0], append(command[1:], "delete", "--force", name)...).Run() // it may have been deleted
		os.RemoveAll(dir)
	})
	profile, err := d.command("profile", "--format", "oci").Output()
	if err != nil {
		a.Fatal(err)
	}
	text, err := json.Marshal(bundle(name, json.RawMessage(profile), append([]string{"/bin/" + program}, args...)))
	root := dir + "/rootfs"
	for _, folder := range []string{root + "/bin", root + "/dev", root + "/proc", root + "/tmp"} {
		err = errors.Join(err, os.MkdirAll(folder, 0o755))
	}
	err = errors.Join(err, os.Chmod(dir, 0o755), os.WriteFile(dir+"/config.json", text, 0o644),
		install(attacker(program), root+"/bin/"+program))
	if err != nil {
		a.Fatal(err)
	}
	a.command("chown", "-R", fmt.Sprintf("%d:%d", lxcID, lxcID), root)
	return exec.Command(command[0], append(command[1:], "run", "--bundle", dir, name)...)
}

type object = map[string]any

// bundle is a config.json of an unprivileged container with the capabilities that the attacks use.
func bundle(name string, profile json.RawMessage, args []string) object {
	all := []string{
		"CAP_MKNOD", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_ADMIN",
		"CAP_SYS_NICE",
	}
	ids := []object{{"containerID": 0, "hostID": lxcID, "size": 65536}}
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
		},
	}
}

// TestOCI has attacks come from containers of OCI runtimes.
func TestOCI(t *testing.T) {
	for runtime := range runtimes {
		t.Run(runtime+"/exec race", func(t *testing.T) {
			a := newAttack(t)
			a.judgeRace(a.start(a.serve(held()).oci(runtime, "exec", slowly("mknod")...)).wait())
		})
		t.Run(runtime+"/memory", func(t *testing.T) {
			a := newAttack(t)
			d := a.serve(setup{config: everything})
			a.judgeMemory(a.start(d.oci(runtime, "memory", strconv.Itoa(attempts), seconds(duration))).wait())
		})
	}
}
