package stage

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/intercede/intercede/internal/require"
)

// hostID is the host's ID of root in containers of OCI runtimes and of LXC.
const hostID = 100000

// LXC is the command line that runs a program of testdata as an unprivileged container of LXC's, which ends with the
// program.
func (d *Daemon) LXC(prepare Prepare, program string, args ...string) *exec.Cmd {
	t := d.test
	t.Helper()
	for _, needed := range []string{"lxc-execute", "unshare", "newuidmap"} {
		if _, err := exec.LookPath(needed); err != nil {
			require.Lacking(t, "%s is not installed: run scripts/install-packages", needed)
		}
	}
	dir, err := os.MkdirTemp("", "ic")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(dir)
	t.Cleanup(func() {
		removeCgroups(t, name)
		os.RemoveAll(dir)
	})
	profile, err := d.Command("profile", "--format", "lxc", "--base", "/usr/share/lxc/config/common.seccomp").Output()
	if err != nil {
		t.Fatal(err)
	}
	config := strings.Join([]string{
		"lxc.uts.name = " + name,
		"lxc.rootfs.path = dir:" + dir + "/rootfs",
		fmt.Sprintf("lxc.idmap = u 0 %d 65536", hostID),
		fmt.Sprintf("lxc.idmap = g 0 %d 65536", hostID),
		"lxc.mount.auto = proc:mixed",
		"lxc.net.0.type = empty",
		"lxc.apparmor.profile = unconfined",
		"lxc.seccomp.profile = " + dir + "/notify.seccomp",
		"lxc.seccomp.notify.proxy = unix:" + d.lxcSocket(),
	}, "\n") + "\n"
	root := dir + "/rootfs"
	for _, folder := range []string{"/" + name, "/rootfs/bin", "/rootfs/dev", "/rootfs/proc", "/rootfs/sys", "/rootfs/tmp", "/rootfs/etc"} {
		err = errors.Join(err, os.MkdirAll(dir+folder, 0o755))
	}
	err = errors.Join(err, os.Chmod(dir, 0o755),
		os.WriteFile(dir+"/subid", fmt.Appendf(nil, "root:%d:65536\n", hostID), 0o644),
		os.WriteFile(dir+"/notify.seccomp", profile, 0o644),
		os.WriteFile(dir+"/"+name+"/config", []byte(config), 0o644),
		install(Program(program), root+"/bin/"+program))
	if err != nil {
		t.Fatal(err)
	}
	prepare.in(t, root)
	t.Command("chown", "-R", fmt.Sprintf("%d:%d", hostID, hostID), root)
	// Root's ids are delegated to it in a mount namespace of its own.
	const delegate = `mount --bind "$1" /etc/subuid && mount --bind "$1" /etc/subgid && shift && exec "$@"`
	return exec.Command("unshare", append([]string{"-m", "--propagation", "private", "sh", "-c", delegate, "sh", dir + "/subid",
		"lxc-execute", "-P", dir, "-n", name, "-o", dir + "/log", "-l", "INFO", "--", "/bin/" + program}, args...)...)
}

// removeCgroups removes what a monitor that was killed has left.
func removeCgroups(t *Test, name string) {
	left, _ := filepath.Glob("/sys/fs/cgroup/*/lxc.*." + name)
	more, _ := filepath.Glob("/sys/fs/cgroup/lxc.*." + name)
	for _, dir := range append(left, more...) {
		t.Eventually("the cgroup "+dir+" can be removed", func() bool {
			return exec.Command("find", dir, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+").Run() == nil
		})
	}
}
