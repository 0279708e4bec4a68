package broker

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/internal/cgroup"
	"github.com/intercede/intercede/internal/cgroup/limit"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// TestFewTasks runs as a process of its own in a cgroup of fewTasksEnv, and its callers in one of manyTasksEnv.
const (
	fewTasksEnv  = "INTERCEDE_TEST_FEW_TASKS"
	manyTasksEnv = "INTERCEDE_TEST_MANY_TASKS"
)

// TestFewTasks has a broker in a cgroup of 100 tasks, and a container with many more threads, all of which call a
// plugin that takes its time: none is refused, and another container is answered meanwhile.
func TestFewTasks(t *testing.T) {
	if folder := os.Getenv(fewTasksEnv); folder != "" {
		manyCalls(t, folder, os.Getenv(manyTasksEnv))
		return
	}
	folder, own := newPidsCgroup(t, 100)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `echo $$ >"$1/cgroup.procs" && exec "$0" -test.run='^TestFewTasks$' -test.v`, self, folder)
	// Of many processors the Go runtimes would use up the tasks.
	cmd.Env = append(os.Environ(), fewTasksEnv+"="+folder, manyTasksEnv+"="+own, fmt.Sprintf("GOMAXPROCS=%d", min(runtime.GOMAXPROCS(0), 4)))
	output, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(output), "workers; ") {
		t.Errorf("%v", err)
	}
	t.Logf("%s", output)
}

// newPidsCgroup makes a cgroup with a limit of tasks, below this process's own or beside it, and returns that too.
func newPidsCgroup(t *testing.T, most int) (folder, own string) {
	t.Helper()
	sdktest.RequireRoot(t)
	folders, err := cgroup.OwnFolders()
	if err != nil {
		t.Fatal(err)
	}
	found, ok := folders[cgroup.Hierarchy(folders, "pids")]
	if !ok {
		sdktest.Lacking(t, "needs a pids controller among %v", folders)
	}
	parent := found.Path
	if limit.OwnV1(folders, "pids") == nil {
		if parent, err = limit.DelegatedParent(found, "pids"); err != nil {
			sdktest.Lacking(t, "needs a cgroup to limit tasks in: %v", err)
		}
		if folders, err = cgroup.OwnFolders(); err != nil { // another one, if it had to move
			t.Fatal(err)
		}
	}
	folder = filepath.Join(parent, "intercede-test-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(folder, 0o755); err != nil {
		sdktest.Lacking(t, "make a cgroup: %v", err)
	}
	t.Cleanup(func() {
		for end := time.Now().Add(testcaller.Timeout); unix.Rmdir(folder) == unix.EBUSY && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
	})
	if err := os.WriteFile(filepath.Join(folder, "pids.max"), []byte(strconv.Itoa(most)), 0); err != nil {
		sdktest.Lacking(t, "limit the tasks of a cgroup: %v", err)
	}
	return folder, folders[cgroup.Hierarchy(folders, "pids")].Path
}

func manyCalls(t *testing.T, folder, outsideFolder string) {
	t.Helper()
	const calls = 300
	b := newBench(t, options{})
	outside := func(c *testcaller.Caller) *testcaller.Caller {
		if err := os.WriteFile(filepath.Join(outsideFolder, "cgroup.procs"), []byte(strconv.Itoa(c.PID)), 0); err != nil {
			t.Fatal(err)
		}
		return c
	}
	busy, other := outside(b.attach(t)), outside(b.attach(t))
	want(t, ask(t, busy, testplugin.Return, 1), 1, 0)
	var results []<-chan testcaller.Result
	for i := range calls {
		results = append(results, begin(busy, testplugin.Ignore, uint64(i)))
	}
	workers := b.MaxConnections()
	var gates []*held
	for done := range calls {
		for len(gates) < min(workers-1, calls-done) {
			gates = append(gates, b.gate.next(t))
		}
		if done%10 == 0 {
			want(t, ask(t, other, testplugin.Return, 1), 1, 0)
		}
		gates[0].open()
		gates = gates[1:]
	}
	for i, result := range results {
		want(t, testcaller.Await(t, result), int64(i), 0)
	}
	most, _ := os.ReadFile(filepath.Join(folder, "pids.peak"))
	now, _ := os.ReadFile(filepath.Join(folder, "pids.current"))
	t.Logf("%d workers; tasks at most %q, now %q", workers, most, now)
}

// withWorkers is a bench whose broker has so many workers at most.
func withWorkers(t *testing.T, most int) *bench {
	b := newBench(t, options{})
	b.crew.mu.Lock()
	defer b.crew.mu.Unlock()
	b.crew.max = most
	return b
}

// TestFewWorkers has more containers than workers, all of which call a plugin that takes its time: each gets its turn.
func TestFewWorkers(t *testing.T) {
	t.Parallel()
	const containers, each = 8, 10
	b := withWorkers(t, 2)
	var results []<-chan testcaller.Result
	for range containers {
		c := b.attach(t)
		for i := range each {
			results = append(results, begin(c, testplugin.Ignore, uint64(i)))
		}
	}
	for range containers * each {
		b.gate.next(t).open()
	}
	for i, result := range results {
		want(t, testcaller.Await(t, result), int64(i%each), 0)
	}
	b.crew.mu.Lock()
	defer b.crew.mu.Unlock()
	if b.crew.count > 2 {
		t.Errorf("%d workers", b.crew.count)
	}
}

// TestReservedWorkers has two containers that would have all workers, in calls that take their time: those without a
// call have a worker all the same.
func TestReservedWorkers(t *testing.T) {
	t.Parallel()
	const workers, calls = 6, 12
	b := withWorkers(t, workers)
	busy := []*testcaller.Caller{b.attach(t), b.attach(t)}
	quiet := []*testcaller.Caller{b.attach(t), b.attach(t), b.attach(t)}
	var results []<-chan testcaller.Result
	var gates []*held
	for i := range calls {
		results = append(results, begin(busy[i%2], testplugin.Ignore, uint64(i)))
	}
	for range workers - len(quiet) {
		gates = append(gates, b.gate.next(t))
	}
	for i := range 20 {
		for _, c := range quiet {
			want(t, ask(t, c, testplugin.Return, uint64(i)), int64(i), 0)
		}
	}
	var first []<-chan testcaller.Result
	var firstGates []*held
	for i, c := range quiet {
		first = append(first, begin(c, testplugin.Ignore, uint64(100+i)))
		firstGates = append(firstGates, b.gate.next(t))
		if got := firstGates[i].what; got != strconv.Itoa(100+i) {
			t.Errorf("call %s came before the first of container %d", got, i)
		}
	}
	if n := len(b.gate.arrived); n != 0 {
		t.Errorf("%d more calls are at the gate", n)
	}
	for range calls {
		if len(gates) == 0 {
			gates = append(gates, b.gate.next(t))
		}
		gates[0].open()
		gates = gates[1:]
	}
	for i, result := range results {
		want(t, testcaller.Await(t, result), int64(i), 0)
	}
	for i, result := range first {
		firstGates[i].open()
		want(t, testcaller.Await(t, result), int64(100+i), 0)
	}
	b.checkCrew(t, len(busy)+len(quiet))
}

// TestWorkersUnderStorm has containers come, call as fast as they can from many threads, and go: in the end each worker
// that was taken is one that is kept.
func TestWorkersUnderStorm(t *testing.T) {
	t.Parallel()
	b := withWorkers(t, 4)
	stays := b.attach(t)
	for round := range 8 {
		var storms []*testcaller.Caller
		for range 1 + round%4 {
			c := b.attach(t)
			c.Storm(4, unix.SYS_GETPPID, op(testplugin.Return, 1)...)
			storms = append(storms, c)
		}
		for i := range 50 {
			want(t, ask(t, stays, testplugin.Return, uint64(i)), int64(i), 0)
		}
		for _, c := range storms {
			c.Kill()
		}
	}
	eventually(t, "the containers are gone", func() bool { return len(b.Status()) == 1 })
	b.checkCrew(t, 1)
}

// checkCrew waits until all extra calls have ended, while a worker is kept for each of so many containers.
func (b *bench) checkCrew(t *testing.T, containers int) {
	t.Helper()
	eventually(t, "no worker is taken but those that are kept", func() bool {
		b.crew.mu.Lock()
		defer b.crew.mu.Unlock()
		return b.crew.kept == containers && b.crew.extra == 0
	})
}

func TestFreeWorkers(t *testing.T) {
	for _, test := range []struct{ max, kept, want int }{{100, 1, 99}, {100, 80, 20}, {100, 90, 12}, {100, 1000, 12}, {4, 4, 0}} {
		if got := (&crew{max: test.max, kept: test.kept}).free(); got != test.want {
			t.Errorf("%d of %d workers with %d containers, want %d", got, test.max, test.kept, test.want)
		}
	}
}

func TestTasksLeft(t *testing.T) {
	root := t.TempDir()
	inner := filepath.Join(root, "a", "b")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		folder, max, current string
		want                 uint64
	}{
		{"a/b", "max", "7", 1<<31 - 1}, {"a", "1000", "400", 600}, {"a/b", "500", "7", 493}, {"a", "1000", "1001", 0},
	} {
		for name, text := range map[string]string{"pids.max": step.max, "pids.current": step.current} {
			if err := os.WriteFile(filepath.Join(root, step.folder, name), []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if left := tasksLeft(cgroup.Folder{Path: inner, Top: root}); left != step.want {
			t.Errorf("%s of %s in %s: %d left, want %d", step.current, step.max, step.folder, left, step.want)
		}
	}
}

func TestThreadsWithin(t *testing.T) {
	for _, c := range []struct{ tasks, plugins, want int }{
		{-5, 1, 0}, {60, 1, 11}, {60, 6, 3}, {128, 6, 8}, {132, 6, 9}, {140, 6, 11}, {4800, 6, 1176}, {4800, 0, 1200},
	} {
		if got := threadsWithin(c.tasks, c.plugins); got != c.want {
			t.Errorf("%d tasks, %d plugins: %d, want %d", c.tasks, c.plugins, got, c.want)
		}
	}
}
