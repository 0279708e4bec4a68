package sysinfo

import (
	"bytes"
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// Bounds of a search for tasks: a container can have as many tasks and cgroups as it is let.
const (
	maxTasks   = 1<<16 - 1 // sysinfo.procs has 16 bits
	maxCgroups = 1024
)

// tasks finds a container's tasks: threads, as sysinfo(2) counts them. The ways, from the best:
//
//   - pids.current of a cgroup of the container's own;
//   - the lists of tasks in such a cgroup of another controller, and below it;
//   - the descendants of the container's init.
type tasks struct {
	host    *host
	init    int
	counter *file      // nil: the container has no pids cgroup of its own
	cgroup  *ownCgroup // nil: it has no cgroup of its own at all

	mu      sync.Mutex
	counted int
	until   time.Duration // counted may be used till then, on the boot-time clock
}

func openTasks(h *host, container sdk.Container, folders cgroupFolders) *tasks {
	t := &tasks{host: h, init: container.InitPID}
	own := ownCgroups(h, container, folders)
	for _, cgroup := range own {
		counter := newFile(cgroup.dir, "pids.current")
		if _, err := counter.readAmount(); err == nil {
			counter.keep()
			t.counter = counter
			break
		}
	}
	if len(own) > 0 {
		t.cgroup = &own[0]
	}
	return t
}

func (t *tasks) close() {
	if t.counter != nil {
		t.counter.close()
	}
}

// ownCgroup is a cgroup in which nobody but the container is.
type ownCgroup struct {
	dir  string
	list string // the file that lists its tasks
}

// ownCgroups are those of the container in which nobody else is: neither the plugin nor the parent of the container's
// init. That of the pids controller comes first, then version 2.
func ownCgroups(h *host, container sdk.Container, folders cgroupFolders) []ownCgroup {
	others, ok := otherCgroups(h, container.InitPID)
	if !ok {
		return nil
	}
	preferred := []string{container.CgroupHierarchy("pids"), ""}
	var own []ownCgroup
	for _, hierarchy := range append(preferred, slices.Sorted(maps.Keys(folders))...) {
		path := container.Cgroups[hierarchy]
		shared := slices.ContainsFunc(others, func(other map[string]string) bool { return within(other[hierarchy], path) })
		if folder, ok := folders[hierarchy]; ok && !shared {
			own = append(own, ownCgroup{dir: folder.Path, list: taskList(hierarchy)})
		}
	}
	return own
}

// within reports whether a cgroup is root or below it, both with their paths from one hierarchy.
func within(path, root string) bool {
	return path == root || strings.HasPrefix(path, strings.TrimSuffix(root, "/")+"/")
}

func taskList(hierarchy string) string {
	if hierarchy == "" {
		return "cgroup.threads"
	}
	return "tasks"
}

// otherCgroups are those of the plugin and of the parent of init, if it is visible and lives.
func otherCgroups(h *host, init int) ([]map[string]string, bool) {
	self, err := sdk.ReadCgroups(filepath.Join(h.proc, "self", "cgroup"))
	if err != nil {
		return nil, false
	}
	others := []map[string]string{self}
	stat, err := h.stat(init)
	if err != nil {
		return nil, false
	}
	if parent, err := sdk.ReadCgroups(filepath.Join(h.proc, strconv.Itoa(stat.parent), "cgroup")); err == nil {
		others = append(others, parent)
	}
	return others, true
}

// costly is the processor time that a count may take before it is used again, and reuse for how many times as long: so
// a container with many tasks has a bounded part of the plugin's time.
const (
	costly = time.Millisecond
	reuse  = 20
)

// count counts the container's tasks; false if no way to count them works.
func (t *tasks) count(ctx context.Context) (uint64, bool) {
	if t.counter != nil {
		if n, err := t.counter.readAmount(); err == nil {
			return n, true
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := t.host.now(); now >= t.until {
		cost := t.host.cost(func() { t.counted = len(t.list(ctx)) })
		if cost > costly && ctx.Err() == nil {
			t.until = now + reuse*cost
		}
	}
	return uint64(t.counted), t.counted > 0
}

// active counts the tasks that make load: running, ready to run, or in uninterruptible sleep. It says what processor
// time that took.
func (t *tasks) active(ctx context.Context) (n int, cost time.Duration) {
	cost = t.host.cost(func() {
		for _, tid := range t.list(ctx) {
			if ctx.Err() != nil {
				break
			}
			if stat, err := t.host.stat(tid); err == nil && (stat.state == 'R' || stat.state == 'D') {
				n++
			}
		}
	})
	return n, cost
}

// list lists the container's tasks, in part if the context ends; none if there is no way to.
func (t *tasks) list(ctx context.Context) []int {
	if t.cgroup != nil {
		if tids := t.cgroup.tasks(ctx); len(tids) > 0 {
			return tids
		}
	}
	return t.descendants(ctx)
}

// tasks lists the tasks in the cgroup and below it. The list is opened each time: that of version 1, kept open, may be
// a second old.
func (c *ownCgroup) tasks(ctx context.Context) []int {
	var tids []int
	pending := []string{c.dir}
	for visited := 0; len(pending) > 0 && visited < maxCgroups && len(tids) < maxTasks && ctx.Err() == nil; visited++ {
		dir := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		found, _ := readNumbers(newFile(dir, c.list))
		tids = append(tids, found...)
		pending = append(pending, cgroupsIn(dir)...)
	}
	return tids[:min(len(tids), maxTasks)]
}

// cgroupsIn lists the cgroups one below. The folder of one that has none has two links.
func cgroupsIn(cgroup string) []string {
	var st unix.Stat_t
	if err := unix.Stat(cgroup, &st); err != nil || st.Nlink == 2 {
		return nil
	}
	var below []string
	for _, entry := range readDir(cgroup) {
		if entry.IsDir() {
			below = append(below, filepath.Join(cgroup, entry.Name()))
		}
	}
	return below
}

// descendants lists the threads of init and of all processes below it.
func (t *tasks) descendants(ctx context.Context) []int {
	var tids []int
	pending := []int{t.init}
	for len(pending) > 0 && len(tids) < maxTasks && ctx.Err() == nil {
		threads := filepath.Join(t.host.proc, strconv.Itoa(pending[len(pending)-1]), "task")
		pending = pending[:len(pending)-1]
		for _, entry := range readDir(threads) {
			tid, err := strconv.Atoi(entry.Name())
			if err != nil {
				continue
			}
			children, _ := readNumbers(newFile(filepath.Join(threads, entry.Name()), "children"))
			tids = append(tids, tid)
			pending = append(pending, children...)
		}
	}
	return tids[:min(len(tids), maxTasks)]
}

// readDir lists a folder, at most maxTasks entries of it; nothing if it is gone.
func readDir(path string) []os.DirEntry {
	dir, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer dir.Close()
	entries, _ := dir.ReadDir(maxTasks)
	return entries
}

// maxList is as long as a list of maxTasks ids gets: seven digits and a separator each.
const maxList = 8 * maxTasks

// readNumbers reads the ids of tasks in a file.
func readNumbers(f *file) ([]int, error) {
	text, err := f.readAll(maxList)
	if err != nil {
		return nil, err
	}
	return parseNumbers(text), nil
}

// parseNumbers parses ids separated by blanks or newlines, at most maxTasks.
func parseNumbers(text []byte) []int {
	var numbers []int
	for word := range bytes.FieldsSeq(text) {
		if n, err := strconv.Atoi(string(word)); err == nil && n > 0 && len(numbers) < maxTasks {
			numbers = append(numbers, n)
		}
	}
	return numbers
}
