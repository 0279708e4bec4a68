package attacks

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/require"
)

// lxcID is the host's ID of root of LXC's containers.
const lxcID = 100000

// lxc is the command line that runs an attacker's program as an unprivileged container of LXC's, which ends with the
// program.
func (d *daemon) lxc(program string, args ...string) *exec.Cmd {
	a := d.attack
	a.Helper()
	for _, needed := range []string{"lxc-execute", "unshare", "newuidmap"} {
		if _, err := exec.LookPath(needed); err != nil {
			require.Lacking(a, "%s is not installed: run scripts/install-packages", needed)
		}
	}
	dir, err := os.MkdirTemp("", "ic")
	if err != nil {
		a.Fatal(err)
	}
	name := filepath.Base(dir)
	a.Cleanup(func() {
		removeCgroups(a, name)
		os.RemoveAll(dir)
	})
	profile, err := d.command("profile", "--format", "lxc", "--base", "/usr/share/lxc/config/common.seccomp").Output()
	if err != nil {
		a.Fatal(err)
	}
	config := strings.Join([]string{
		"lxc.uts.name = " + name,
		"lxc.rootfs.path = dir:" + dir + "/rootfs",
		fmt.Sprintf("lxc.idmap = u 0 %d 65536", lxcID),
		fmt.Sprintf("lxc.idmap = g 0 %d 65536", lxcID),
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
		os.WriteFile(dir+"/subid", fmt.Appendf(nil, "root:%d:65536\n", lxcID), 0o644),
		os.WriteFile(dir+"/notify.seccomp", profile, 0o644),
		os.WriteFile(dir+"/"+name+"/config", []byte(config), 0o644),
		install(attacker(program), root+"/bin/"+program))
	if err != nil {
		a.Fatal(err)
	}
	a.command("chown", "-R", fmt.Sprintf("%d:%d", lxcID, lxcID), root)
	// Root's ids are delegated to it in a mount namespace of its own.
	const delegate = `mount --bind "$1" /etc/subuid && mount --bind "$1" /etc/subgid && shift && exec "$@"`
	return exec.Command("unshare", append([]string{"-m", "--propagation", "private", "sh", "-c", delegate, "sh", dir + "/subid",
		"lxc-execute", "-P", dir, "-n", name, "-o", dir + "/log", "-l", "INFO", "--", "/bin/" + program}, args...)...)
}

// removeCgroups removes what a monitor that was killed has left.
func removeCgroups(a *attack, name string) {
	left, _ := filepath.Glob("/sys/fs/cgroup/*/lxc.*." + name)
	more, _ := filepath.Glob("/sys/fs/cgroup/lxc.*." + name)
	for _, dir := range append(left, more...) {
		a.eventually("the cgroup "+dir+" can be removed", func() bool {
			return exec.Command("find", dir, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+").Run() == nil
		})
	}
}

// TestLXC has the attacks come from a container of LXC's, whose notifications come through its monitor.
func TestLXC(t *testing.T) {
	t.Run("exec race", func(t *testing.T) {
		a := newAttack(t)
		a.judgeRace(a.start(a.serve(held()).lxc("exec", slowly("mknod")...)).wait())
	})
	t.Run("write-back race", func(t *testing.T) {
		a := newAttack(t)
		a.judgeRace(a.start(a.serve(held()).lxc("exec", slowly("sysinfo")...)).wait())
	})
	t.Run("memory", func(t *testing.T) {
		a := newAttack(t)
		d := a.serve(setup{config: everything})
		a.judgeMemory(a.start(d.lxc("memory", strconv.Itoa(attempts), seconds(duration))).wait())
	})
	t.Run("arguments", func(t *testing.T) {
		a := newAttack(t)
		d := a.serve(setup{config: everything})
		a.harm(d, func() { a.fuzz(d, a.start(d.lxc("fuzz", fuzzWords(a)...))) })
	})
	t.Run("load", func(t *testing.T) {
		a := newAttack(t)
		d := a.serve(setup{config: everything})
		a.harm(d, func() { a.start(d.lxc("hog", "mknod", "100", seconds(short()))).wait() })
	})
}
