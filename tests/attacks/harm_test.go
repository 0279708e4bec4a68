package attacks

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/tests/stage"
	"golang.org/x/sys/unix"
)

// TestHarmThreads has many threads of a container in calls while the daemon and its plugins may have few tasks.
func TestHarmThreads(t *testing.T) {
	a := newAttack(t)
	cgroup := a.Cgroup("pids")
	// The Go runtime of each of the seven processes has a thread for each processor.
	few := 386 + 7*runtime.NumCPU()
	if err := os.WriteFile(filepath.Join(cgroup, "pids.max"), []byte(strconv.Itoa(few)), 0); err != nil {
		t.Fatal(err)
	}
	d := a.serve(stage.Setup{Config: stage.Everything, Wrapper: inCgroup(cgroup)})
	a.harm(d, func() { d.Container().Run("hog", "sysinfo", "500", seconds(short())) })
}

// harm has an attack happen beside a bystander, twice.
func (a *attack) harm(d *daemon, happen func()) {
	a.Helper()
	b := d.bystander()
	before := d.descriptors()
	happen()
	b.rest()
	b.say("attack")
	happen()
	b.judge()
	d.CheckPlugins()
	d.checkDescriptors(before)
}

// inCgroup is a command that executes another one in a cgroup.
func inCgroup(dir string) []string {
	return []string{"sh", "-c", fmt.Sprintf(`echo $$ >%s/cgroup.procs; exec "$@"`, dir), "sh"}
}

// TestHarmLoads are loads of one container, of which others notice no more than that the machine is busy: files and
// kernel are loads without the daemon, to compare with.
func TestHarmLoads(t *testing.T) {
	for _, test := range []struct {
		what    string
		threads int
	}{
		{"mknod", 500}, {"groups", 64}, {"killed", 4}, {"divisions", 8}, {"files", 500}, {"kernel", 500}, {"kernel", 2},
	} {
		t.Run(fmt.Sprintf("%s of %d", test.what, test.threads), func(t *testing.T) {
			a := newAttack(t)
			d := a.serve(stage.Setup{Config: stage.Everything})
			a.harm(d, func() {
				c := d.Container("--device-cgroup-rule", "b *:* rw")
				a.PutDisk(filepath.Join(c.Root, "disk"))
				c.Run("hog", test.what, strconv.Itoa(test.threads), seconds(short()))
			})
		})
	}
}

// nodes has the plugins alone whose containers start quickly.
var nodes = stage.Enable(map[string]string{"mknod": "", "sysinfo": ""})

// TestHarmStuck has calls of containers wait for filesystems that they serve themselves, and that never answer: in
// the broker, which reads a path there, and in the plugin, which walks one.
func TestHarmStuck(t *testing.T) {
	for _, test := range []struct {
		what                string
		containers, threads int
	}{
		{"memory", 1, 64}, {"waited", 40, 20}, {"folder", 1, 64}, {"overlay", 8, 64},
	} {
		t.Run(test.what, func(t *testing.T) {
			a := newAttack(t)
			d := a.serve(stage.Setup{Config: nodes, Broker: "deadline = \"5s\""})
			a.harm(d, func() {
				stuck := d.stick(test.what, test.containers, test.threads)
				time.Sleep(short())
				calls := 0
				for _, c := range d.Status().Containers {
					calls += c.Inflight
				}
				summary.add("%s: %d calls in flight", a.Name(), calls)
				for _, p := range stuck {
					p.Kill()
				}
			})
		})
	}
}

// TestEndWhileStuck ends the daemon while calls wait for such a filesystem. Threads of the daemon that wait there can
// be killed: they wait for a page (filemap_fault, mm/filemap.c). None makes a request to a filesystem of a
// container's, which could not be killed: FUSE refuses users whom the namespace of its mount does not map
// (fuse_get_req, fs/fuse/dev.c).
func TestEndWhileStuck(t *testing.T) {
	for name, end := range map[string]func(*stage.Daemon){"SIGTERM": (*stage.Daemon).Stop, "SIGKILL": (*stage.Daemon).Kill} {
		for _, what := range []string{"waited", "overlay"} {
			t.Run(name+"/"+what, func(t *testing.T) {
				a := newAttack(t)
				d := a.serve(stage.Setup{Config: nodes, Broker: "deadline = \"2s\""})
				d.stick(what, 2, 20)
				time.Sleep(3 * time.Second)
				end(d.Daemon)
			})
		}
	}
}

// stick starts containers whose calls are stuck, see testdata/stuck.c.
func (d *daemon) stick(what string, containers, threads int) (stuck []*stage.Process) {
	d.attack.Helper()
	for range containers {
		c := d.Container("--device-cgroup-rule", "c 10:229 rw")
		if err := unix.Mknod(filepath.Join(c.Root, "fuse"), unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))); err != nil {
			d.attack.Fatal(err)
		}
		p := c.Start("stuck", what, strconv.Itoa(threads))
		p.Line()
		stuck = append(stuck, p)
	}
	return stuck
}

// TestHarmSpin has a thread with SCHED_FIFO, which the plugin gives it, on each processor in turn.
func TestHarmSpin(t *testing.T) {
	a := newAttack(t)
	d := a.serve(stage.Setup{Config: stage.Everything})
	a.harm(d, func() {
		for processor := range min(runtime.NumCPU(), 4) {
			d.Container().Run("hog", "spin", strconv.Itoa(processor), seconds(short()/2))
		}
	})
}

// TestHarmLog has calls refused with a line in the log each, as far as the log is not limited.
func TestHarmLog(t *testing.T) {
	a := newAttack(t)
	d := a.serve(stage.Setup{Config: stage.Everything})
	started := time.Now()
	a.harm(d, func() {
		c := d.Container("--device-cgroup-rule", "b *:* rw")
		a.PutDisk(filepath.Join(c.Root, "disk"))
		summary.add("%s: %s calls", a.Name(), strings.TrimSpace(c.Run("hog", "mount", "50", seconds(short()))))
	})
	const most = 64 << 10 // bytes a second of a plugin's output
	if bytes, took := d.Log.Bytes(), time.Since(started); bytes > most*int(took.Seconds()+1) {
		a.succeeded("the log has %d bytes of %v", bytes, took)
	}
}
