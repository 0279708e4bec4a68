package sysinfo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk"
)

// stat is /proc/PID/stat of a process with an awkward name.
func stat(pid int, state string, parent, startTicks int) string {
	return fmt.Sprintf("%d (a) R 1 (b) %s %d 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n", pid, state, parent, startTicks)
}

// container is a tree in which init 42, whose parent is 41, has the threads 42 and 43; 43 has the child 50, and that
// 51.
func containerTree() tree {
	return tree{
		"proc/self/cgroup":          "4:memory:/daemon\n3:pids:/daemon\n0::/daemon\n",
		"proc/41/cgroup":            "4:memory:/daemon\n3:pids:/runtime\n0::/\n",
		"proc/42/stat":              stat(42, "S", 41, 100),
		"proc/43/stat":              stat(43, "R", 41, 100),
		"proc/50/stat":              stat(50, "D", 42, 100),
		"proc/51/stat":              stat(51, "Z", 50, 100),
		"proc/42/task/42/children":  "",
		"proc/42/task/43/children":  "50 ",
		"proc/50/task/50/children":  "51 ",
		"proc/51/task/51/children":  "",
		"memory/c/tasks":            "42\n43\n50\n51\n",
		"memory/c/nested/tasks":     "60\n61\n",
		"memory/c/nested/a/b/tasks": "62\n",
		"v2/c/cgroup.threads":       "42\n43\n50\n51\n",
		"v2/c/x/cgroup.threads":     "52\n",
		"pids/c/pids.current":       "12\n",
		"pids/c/tasks":              "1\n",
		"v2/pids.current":           "1234\n",
	}
}

func TestCountTasks(t *testing.T) {
	files := containerTree()
	for name, c := range map[string]struct {
		files   tree
		cgroups map[string]string
		want    uint64
	}{
		"pids controller":              {files, map[string]string{"pids": "/c", "memory": "/c", "": "/c"}, 12},
		"pids controller of version 2": {files.with("v2/c/pids.current", "13"), map[string]string{"": "/c"}, 13},
		"pids cgroup gone":             {files.without("pids/c"), map[string]string{"pids": "/c"}, 4},
		"pids shared with the plugin":  {files.with("pids/daemon/pids.current", "77"), map[string]string{"pids": "/daemon", "memory": "/c"}, 7},
		"pids shared with the runtime": {files.with("pids/runtime/pids.current", "77"),
			map[string]string{"pids": "/runtime", "memory": "/c"}, 7},
		"pids above the plugin":         {files, map[string]string{"pids": "/", "memory": "/c"}, 7},
		"threads of version 2":          {files, map[string]string{"pids": "/", "memory": "/", "": "/c"}, 5},
		"no cgroup of its own":          {files, map[string]string{"pids": "/", "memory": "/daemon", "": "/"}, 4},
		"no cgroup known":               {files, nil, 4},
		"cgroup out of view":            {files, map[string]string{"memory": "/../c"}, 4},
		"a runtime that is gone":        {files.without("proc/41"), map[string]string{"pids": "/c"}, 12},
		"nothing known of the plugin":   {files.without("proc/self"), map[string]string{"pids": "/c"}, 4},
		"nothing at all":                {tree{"proc/x": ""}, map[string]string{"pids": "/c"}, 999},
		"version 2 that has no threads": {files.without("v2/c/"), map[string]string{"": "/c"}, 4},
		"a process that came and went":  {files.without("proc/51/"), nil, 3},
		"more tasks than can be counted": {files.with("memory/c/tasks", strings.Repeat("7\n", maxTasks+5)),
			map[string]string{"memory": "/c"}, maxTasks},
	} {
		t.Run(name, func(t *testing.T) {
			session := fakeSession(fakeHost(c.files.write(t)), sdk.Container{InitPID: 42, Cgroups: c.cgroups}, settings{})
			defer session.Close()
			info, err := session.sysinfo(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			if info.procs != c.want {
				t.Errorf("%d tasks, want %d", info.procs, c.want)
			}
		})
	}
}

func TestActiveTasks(t *testing.T) {
	session := fakeSession(fakeHost(containerTree().write(t)), sdk.Container{InitPID: 42}, settings{})
	defer session.Close()
	if n, _ := session.tasks.active(t.Context()); n != 2 {
		t.Errorf("%d active tasks, want the running and the uninterruptible one", n)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if n, _ := session.tasks.active(ended); n != 0 {
		t.Errorf("%d active tasks after the caller is gone", n)
	}
}

// TestCostlyCountIsReused has every count cost two milliseconds, and then none.
func TestCostlyCountIsReused(t *testing.T) {
	h := fakeHost(containerTree().write(t))
	now, used, each, counts := time.Hour, time.Duration(0), 2*time.Millisecond, 0
	h.now = func() time.Duration { return now }
	h.cpuTime = func() time.Duration { used += each; counts++; return used }
	tasks := openTasks(h, sdk.Container{InitPID: 42}, nil)
	count := func(when string, want int) {
		t.Helper()
		if n, ok := tasks.count(t.Context()); n != 4 || !ok {
			t.Errorf("%s: %d tasks, %v; want 4", when, n, ok)
		}
		if counts != 2*want {
			t.Errorf("%s: counted %d times, want %d", when, counts/2, want)
		}
	}
	count("at first", 1)
	now += reuse*each - 1
	count("soon after", 1)
	now++
	each = costly
	count("later", 2)
	count("after a cheap one", 3)
}

func TestUptimeOfContainer(t *testing.T) {
	files := containerTree().with("proc/42/stat", stat(42, "S", 41, 355_000))
	session := fakeSession(fakeHost(files.write(t)), sdk.Container{InitPID: 42}, settings{Uptime: ofContainer})
	defer session.Close()
	for offsets, want := range map[string]uint64{
		"monotonic           0         0\nboottime            0         0\n": 50,
		"monotonic          -5         0\nboottime         1000 500000000\n": 1051,
		"": 50,
	} {
		info, err := session.sysinfo(t.Context(), parseBootOffset(offsets))
		if err != nil {
			t.Fatal(err)
		}
		if info.uptime != want {
			t.Errorf("%q: up %d s, want %d", offsets, info.uptime, want)
		}
	}
	unknown := fakeSession(fakeHost(files.write(t)), sdk.Container{InitPID: 7}, settings{Uptime: ofContainer})
	defer unknown.Close()
	if info, _ := unknown.sysinfo(t.Context(), 0); info.uptime != 777 {
		t.Errorf("without an init: up %d s, want the host's", info.uptime)
	}
}

func TestParseStat(t *testing.T) {
	got, err := parseStat([]byte(stat(7, "D", 3, 4711)))
	if want := (processStat{state: 'D', parent: 3, startTicks: 4711}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", ")", "7 (x) S 1 2", "7 x S", strings.Replace(stat(7, "D", 3, 1), " 3 ", " x ", 1),
		strings.Replace(stat(7, "D", 3, 4711), "4711", "99999999999999", 1)} {
		if got, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: %+v, want an error", bad, got)
		}
	}
}

func FuzzProcFile(f *testing.F) {
	f.Add([]byte(stat(7, "R", 1, 2)))
	f.Add([]byte("monotonic 0 0\nboottime -9223372036 999999999\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		offset := parseBootOffset(string(text))
		s, err := parseStat(text)
		if err != nil {
			s.startTicks = 0
		}
		start := time.Duration(s.startTicks) * clockTick
		if start < 0 {
			t.Errorf("%q: starts at %v", text, start)
		}
		if up := uptime(start+time.Second, start, offset); up > 2*uint64(maxOffset) {
			t.Errorf("%q: up %d s", text, up)
		}
	})
}

func TestWithin(t *testing.T) {
	for paths, want := range map[[2]string]bool{
		{"/a", "/"}: true, {"/", "/"}: true, {"/a/b", "/a"}: true, {"/ab", "/a"}: false, {"/", "/a"}: false, {"", "/"}: false,
	} {
		if within(paths[0], paths[1]) != want {
			t.Errorf("%q within %q: want %v", paths[0], paths[1], want)
		}
	}
}

func TestParseNumbers(t *testing.T) {
	if got := parseNumbers([]byte("1 22\n333\nx -4 0\n")); !slices.Equal(got, []int{1, 22, 333}) {
		t.Errorf("got %v", got)
	}
}
