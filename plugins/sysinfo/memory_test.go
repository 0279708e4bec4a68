package sysinfo

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk"
)

// tree is a folder's files: path to text.
type tree map[string]string

func (files tree) write(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// fakeHost has 8000 bytes of memory, 2000 of swap, and its procfs and cgroups in the folder root.
func fakeHost(root string) *host {
	return &host{
		proc: filepath.Join(root, "proc"),
		sysinfo: func() (sysinfo, error) {
			return sysinfo{
				uptime: 777, loads: [3]uint64{1, 2, 3}, procs: 999,
				memory: memory{total: 8000, free: 6000, shared: 100}, swap: swap{total: 2000, free: 1500},
			}, nil
		},
		now:     func() time.Duration { return time.Hour },
		cpuTime: func() time.Duration { return 0 },
	}
}

// fakeFolders are the container's in the folders memory, pids and v2 of a fake host.
func fakeFolders(h *host, container sdk.Container) cgroupFolders {
	folders := cgroupFolders{}
	for hierarchy, name := range map[string]string{"memory": "memory", "pids": "pids", "": "v2"} {
		top := filepath.Join(filepath.Dir(h.proc), name)
		if path, ok := container.Cgroups[hierarchy]; ok && !strings.Contains(path, "..") {
			folders[hierarchy] = sdk.CgroupFolder{Path: filepath.Join(top, path), Top: top}
		}
	}
	return folders
}

func fakeSession(h *host, container sdk.Container, s settings) *session {
	return newSession(h, container, fakeFolders(h, container), s)
}

const noLimitV1 = "9223372036854771712\n"

// stat is a memory.stat in both versions' words: hierarchical numbers shared and cache, the cgroup's own 1 and 2 in v1.
func statV1(shared, cache int) string {
	return fmt.Sprintf("cache 2\nrss 4\nshmem 1\nhierarchical_memory_limit 9\ntotal_cache %d\ntotal_rss 7\ntotal_shmem %d\n", cache, shared)
}

func statV2(shared, cache int) string {
	return fmt.Sprintf("anon 11\nfile %d\nkernel 3\nshmem %d\nfile_mapped 8\nshmem_thp 9\n", cache, shared)
}

// v1 adds a level of version 1; v2 one of version 2.
func (files tree) v1(path, limit, used, memsw, memswUsed string, shared, cache int) tree {
	files["memory"+path+"/memory.limit_in_bytes"] = limit
	files["memory"+path+"/memory.usage_in_bytes"] = used
	files["memory"+path+"/memory.memsw.limit_in_bytes"] = memsw
	files["memory"+path+"/memory.memsw.usage_in_bytes"] = memswUsed
	files["memory"+path+"/memory.stat"] = statV1(shared, cache)
	return files
}

func (files tree) v2(path, limit, used, swap, swapUsed string, shared, cache int) tree {
	files["v2"+path+"/memory.max"] = limit
	files["v2"+path+"/memory.current"] = used
	files["v2"+path+"/memory.swap.max"] = swap
	files["v2"+path+"/memory.swap.current"] = swapUsed
	files["v2"+path+"/memory.stat"] = statV2(shared, cache)
	return files
}

func (files tree) without(path string) tree {
	files = maps.Clone(files)
	maps.DeleteFunc(files, func(p, _ string) bool { return strings.HasPrefix(p, path) })
	return files
}

func (files tree) with(path, text string) tree {
	files = maps.Clone(files)
	files[path] = text
	return files
}

func TestMemoryLimits(t *testing.T) {
	v1Root := func() tree { return tree{}.v1("", noLimitV1, "7000", noLimitV1, "7100", 70, 80) }
	own1 := v1Root().v1("/a", noLimitV1, "900", noLimitV1, "910", 7, 8).v1("/a/c", "1000", "300", "1600", "350", 20, 30)
	parent1 := v1Root().v1("/a", "500", "450", "800", "500", 7, 8).v1("/a/c", "1000", "300", noLimitV1, "350", 20, 30)
	own2 := tree{"v2/cgroup.procs": ""}.v2("/a", "max\n", "900", "max", "10", 7, 8).v2("/a/c", "1000\n", "300\n", "700\n", "40\n", 20, 30)
	parent2 := tree{}.v2("/a", "500", "450", "100", "99", 7, 8).v2("/a/c", "1000", "300", "max", "40", 20, 30)
	path := func(p string) map[string]string { return map[string]string{"memory": p, "": "/x"} }
	unified := func(p string) map[string]string { return map[string]string{"": p} }
	hostMemory, hostSwap := memory{8000, 6000, 100}, swap{2000, 1500}

	for name, c := range map[string]struct {
		files   tree
		cgroups map[string]string
		memory  memory
		swap    swap
	}{
		"v1, own limit":      {own1, path("/a/c"), memory{1000, 700, 20}, swap{600, 550}},
		"v1, parent's limit": {parent1, path("/a/c"), memory{500, 50, 7}, swap{300, 250}},
		"v1, no limits":      {own1, path("/a"), hostMemory, hostSwap},
		"v1, the top":        {own1, path("/"), hostMemory, hostSwap},
		"v1, no swap accounting": {own1.without("memory/a/c/memory.memsw").without("memory/a/memory.memsw").without("memory/memory.memsw"),
			path("/a/c"), memory{1000, 700, 20}, hostSwap},
		"v1, no swap allowed": {own1.with("memory/a/c/memory.memsw.limit_in_bytes", "1000"), path("/a/c"), memory{1000, 700, 20}, swap{}},
		"v1, child gone":      {parent1.without("memory/a/c"), path("/a/c"), memory{500, 50, 7}, swap{300, 250}},
		"v1, no statistics":   {own1.without("memory/a/c/memory.stat"), path("/a/c"), memory{1000, 700, 0}, swap{600, 550}},
		"v1, no usage":        {own1.without("memory/a/c/memory.usage"), path("/a/c"), hostMemory, hostSwap},
		"v1, more used":       {own1.with("memory/a/c/memory.usage_in_bytes", "1001"), path("/a/c"), memory{1000, 0, 20}, swap{600, 600}},
		"v1, equal limits":    {own1.with("memory/a/memory.limit_in_bytes", "1000"), path("/a/c"), memory{1000, 100, 7}, swap{600, 550}},
		"v1, larger than the host": {own1.with("memory/a/c/memory.limit_in_bytes", "8001").with("memory/a/c/memory.memsw.limit_in_bytes", "8600"),
			path("/a/c"), hostMemory, swap{600, 550}},
		"v1, outside of view": {own1, path("/../a/c"), hostMemory, hostSwap},
		"v1, no number": {own1.with("memory/a/c/memory.limit_in_bytes", "-1").with("memory/a/c/memory.memsw.limit_in_bytes", "-1"),
			path("/a/c"), hostMemory, hostSwap},
		"v2, own limit":        {own2, unified("/a/c"), memory{1000, 700, 20}, swap{700, 660}},
		"v2, parent's limit":   {parent2, unified("/a/c"), memory{500, 50, 7}, swap{100, 1}},
		"v2, no limits":        {own2, unified("/a"), hostMemory, hostSwap},
		"v2, no swap allowed":  {own2.with("v2/a/c/memory.swap.max", "0\n"), unified("/a/c"), memory{1000, 700, 20}, swap{}},
		"v2, no controller":    {tree{"v2/a/c/cgroup.procs": ""}, unified("/a/c"), hostMemory, hostSwap},
		"v2, controller above": {parent2.without("v2/a/c/memory"), unified("/a/c"), memory{500, 50, 7}, swap{100, 1}},
		"v2, child gone":       {parent2.without("v2/a/c"), unified("/a/c"), memory{500, 50, 7}, swap{100, 1}},
		"hybrid, memory in v2": {own2, map[string]string{"": "/a/c", "pids": "/p", "cpu,cpuacct": "/q"}, memory{1000, 700, 20}, swap{700, 660}},
		"hybrid, memory in v1": {own1, map[string]string{"": "/a", "memory": "/a/c"}, memory{1000, 700, 20}, swap{600, 550}},
		"no cgroup known":      {own1, nil, hostMemory, hostSwap},
	} {
		t.Run(name, func(t *testing.T) {
			h := fakeHost(c.files.write(t))
			session := fakeSession(h, sdk.Container{Cgroups: c.cgroups}, settings{Uptime: ofHost, Loads: ofHost})
			defer session.Close()
			for _, when := range []string{"first", "second"} {
				got, err := session.sysinfo(t.Context(), 0)
				if err != nil {
					t.Fatal(err)
				}
				if got.memory != c.memory || got.swap != c.swap {
					t.Errorf("%s call: %+v, %+v; want %+v, %+v", when, got.memory, got.swap, c.memory, c.swap)
				}
			}
		})
	}
}

// TestLimitsChange has a limit move to another level, appear and vanish after the container was attached.
func TestLimitsChange(t *testing.T) {
	root := tree{"v2/a/b/x": "", "v2/a/memory.max": "4000", "v2/a/memory.current": "1", "v2/a/memory.stat": ""}.write(t)
	h, container := fakeHost(root), sdk.Container{Cgroups: map[string]string{"": "/a/b"}}
	m := openMemory(h, container, fakeFolders(h, container))
	defer m.close()
	write := func(path, text string) {
		if err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string, limit, used uint64) {
		t.Helper()
		if u := m.read(8000, 0); u.limit != limit || u.used != used {
			t.Errorf("%s: %d of %d used, want %d of %d", when, u.used, u.limit, used, limit)
		}
	}
	check("at first", 4000, 1)
	write("v2/a/memory.max", "3000\n")
	check("lowered", 3000, 1)
	write("v2/a/b/memory.max", "1000\n")
	write("v2/a/b/memory.current", "10\n")
	check("a controller for the child", 1000, 10)
	write("v2/a/memory.max", "max\n")
	write("v2/a/b/memory.max", "max\n")
	check("lifted", unlimited, 0)
}

func TestKeptFilesAreClosed(t *testing.T) {
	before := keptFiles.Load()
	files := tree{}.v1("", "9000", "1", "9999", "1", 1, 1).v1("/c", "1000", "1", "1500", "1", 1, 1)
	files["pids/c/pids.current"] = "4\n"
	files["proc/self/cgroup"] = "3:pids:/elsewhere\n"
	files["proc/42/stat"] = "42 (init) S 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 100 0 0\n"
	session := fakeSession(fakeHost(files.write(t)),
		sdk.Container{InitPID: 42, Cgroups: map[string]string{"memory": "/c", "pids": "/c"}}, settings{})
	if kept := keptFiles.Load() - before; kept != 8 {
		t.Errorf("%d files are kept: want 2 limits, 2 limits of swap, usages of both, statistics, tasks", kept)
	}
	session.Close()
	if left := keptFiles.Load() - before; left != 0 {
		t.Errorf("%d files are left open", left)
	}
}

func TestParseMemoryStat(t *testing.T) {
	for name, c := range map[string]struct {
		text   string
		shared uint64
	}{
		"version 2":       {statV2(5, 6), 5},
		"empty":           {"", 0},
		"no newline":      {"file 6\nshmem 5", 5},
		"no value":        {"shmem\nfile 6\n", 0},
		"cut off":         {"file 6\nshm", 0},
		"not a number":    {"shmem -1\n", 0},
		"longer key":      {"shmem_thp 5\n", 0},
		"max is no value": {"shmem max\n", 0},
		"too large":       {"shmem 18446744073709551616\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			if shared := parseMemoryStat([]byte(c.text), "shmem"); shared != c.shared {
				t.Errorf("%d, want %d", shared, c.shared)
			}
		})
	}
}

func FuzzCgroupFile(f *testing.F) {
	for _, seed := range []string{
		"max\n", "0", noLimitV1, "18446744073709551615\n", "-1", " 7 ", statV1(1, 2), statV2(3, 4), "1 2 3\n", "a\x00b",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if n, err := parseAmount(text); err == nil && n != unlimited {
			if again, err := parseAmount(fmt.Append(nil, n)); err != nil || again != n {
				t.Errorf("%q: %d does not survive", text, n)
			}
		}
		shared := parseMemoryStat(text, "shmem")
		m := limitMemory(memory{total: 1 << 40}, usage{limit: 1 << 30, shared: shared})
		if m.shared > m.total || m.free > m.total {
			t.Errorf("%q: %+v has more than its total", text, m)
		}
		numbers := parseNumbers(text)
		if len(numbers) > maxTasks || slices.ContainsFunc(numbers, func(n int) bool { return n <= 0 }) {
			t.Errorf("%q: tasks %v", text, numbers)
		}
	})
}
