package attacks

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TestHarmThreads has many threads of a container in calls while the daemon and its plugins may have few tasks.
func TestHarmThreads(t *testing.T) {
	a := newAttack(t)
	cgroup := a.cgroup("pids")
	if err := os.WriteFile(filepath.Join(cgroup, "pids.max"), []byte("400"), 0); err != nil {
		t.Fatal(err)
	}
	d := a.serve(setup{config: everything, wrapper: inCgroup(cgroup)})
	a.harm(d, func() { d.container().run("hog", "sysinfo", "500", seconds(short())) })
}

// harm has an attack happen beside a bystander.
func (a *attack) harm(d *daemon, happen func()) {
	a.Helper()
	b := d.bystander()
	happen()
	b.judge()
	d.checkPlugins()
}

// cgroup makes a cgroup of version 1, which is removed with the test.
func (a *attack) cgroup(controller string) string {
	a.Helper()
	dir, err := os.MkdirTemp("/sys/fs/cgroup/"+controller, "ic")
	if err != nil {
		a.Fatal(err)
	}
	a.Cleanup(func() {
		a.eventually("the cgroup can be removed", func() bool { return errors.Is(os.Remove(dir), nil) })
	})
	return dir
}

// inCgroup is a command that executes another one in a cgroup.
func inCgroup(dir string) []string {
	return []string{"sh", "-c", fmt.Sprintf(`echo $$ >%s/cgroup.procs; exec "$@"`, dir), "sh"}
}

// TestHarmLoads are loads of one container, of which others notice no more than that the machine is busy.
func TestHarmLoads(t *testing.T) {
	for _, test := range []struct {
		what    string
		threads int
	}{
		{"mknod", 500}, {"groups", 250}, {"killed", 4}, {"divisions", 8}, {"mount", 50},
	} {
		t.Run(test.what, func(t *testing.T) {
			a := newAttack(t)
			d := a.serve(setup{config: everything})
			a.harm(d, func() {
				c := d.container("--device-cgroup-rule", "b *:* rw")
				a.putDisk(filepath.Join(c.root, "disk"))
				summary.add("%s: %s", a.Name(), c.run("hog", test.what, strconv.Itoa(test.threads), seconds(short())))
			})
			_ = time.Second
		})
	}
}
