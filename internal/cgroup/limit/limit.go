// Package limit makes cgroups that limit memory, tasks and devices.
package limit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/intercede/intercede/internal/cgroup"
	"golang.org/x/sys/unix"
)

// Group is a cgroup that this process has made.
type Group struct {
	Dir  string
	lock *os.File // see MakeLocked
}

const (
	// emptyTimeout bounds the wait for the tasks of a cgroup whose processes have been killed.
	emptyTimeout = 10 * time.Second
	emptyPoll    = 5 * time.Millisecond
)

// Make makes a cgroup.
func Make(parent, name string) (*Group, error) {
	g := &Group{Dir: filepath.Join(parent, name)}
	if err := os.Mkdir(g.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a cgroup: %w", err)
	}
	return g, nil
}

// Add moves a process into the cgroup.
func (g *Group) Add(pid int) error { return g.write("cgroup.procs", strconv.Itoa(pid)) }

// InheritSets gives the cgroup, in a hierarchy of version 1 with the cpuset controller, the processors and the memory
// nodes of the one above: without any it takes no task (cpuset(7)). In others it does nothing.
func (g *Group) InheritSets() error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		text, err := os.ReadFile(filepath.Join(g.Dir, "..", name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			err = g.write(name, strings.TrimSpace(string(text)))
		}
		if err != nil {
			return fmt.Errorf("give a cgroup what the one above has: %w", err)
		}
	}
	return nil
}

// LimitMemory limits memory to so many bytes, with the files of version 1 or 2. Swap is limited too where it is
// accounted for: both together to twice as much in version 1, swap alone to as much in version 2.
func (g *Group) LimitMemory(version int, limit int64) error {
	memory, swap, swapLimit := "memory.max", "memory.swap.max", limit
	if version == 1 {
		memory, swap, swapLimit = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", 2*limit
	}
	if err := g.write(memory, strconv.FormatInt(limit, 10)); err != nil {
		return fmt.Errorf("limit memory to %d bytes: %w", limit, err)
	}
	if err := g.write(swap, strconv.FormatInt(swapLimit, 10)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("limit swap: %w", err)
	}
	return nil
}

// OOMKills is how many of the cgroup's tasks the kernel has killed since memory was used up, be it the cgroup's, that
// of one above, or the host's (memory.events of version 2, memory.oom_control of version 1).
func (g *Group) OOMKills() (int, error) {
	for _, name := range []string{"memory.events", "memory.oom_control"} {
		text, err := os.ReadFile(filepath.Join(g.Dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(text)) {
			if count, ok := strings.CutPrefix(line, "oom_kill "); ok {
				return strconv.Atoi(strings.TrimSpace(count))
			}
		}
	}
	return 0, fmt.Errorf("cgroup %s: it does not tell of tasks that were killed since memory was used up", g.Dir)
}

// LimitTasks limits the number of processes and threads.
func (g *Group) LimitTasks(limit int64) error {
	if err := g.write("pids.max", strconv.FormatInt(limit, 10)); err != nil {
		return fmt.Errorf("limit tasks to %d: %w", limit, err)
	}
	return nil
}

// Kill kills the cgroup's processes (cgroup.kill of version 2, kernel 5.14; one by one in version 1, where a process
// can fork faster unless tasks are limited).
func (g *Group) Kill() error {
	err := g.write("cgroup.kill", "1")
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, err := os.ReadFile(filepath.Join(g.Dir, "cgroup.procs"))
	for field := range strings.FieldsSeq(string(text)) {
		pid, err := strconv.Atoi(field)
		if err == nil {
			g.killMember(pid)
		}
	}
	return err
}

// killMember kills the process if it is in the cgroup when it is known to be no other that got its pid.
func (g *Group) killMember(pid int) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(pidfd)
	text, _ := os.ReadFile(filepath.Join(g.Dir, "cgroup.procs"))
	if slices.Contains(strings.Fields(string(text)), strconv.Itoa(pid)) {
		unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	}
}

func (g *Group) write(name, text string) error {
	file, err := os.OpenFile(filepath.Join(g.Dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}

// Remove waits for the last tasks to leave; the kernel says EBUSY until then. It removes the cgroups that were made
// below, which keep the kernel from removing the cgroup too.
func (g *Group) Remove() error {
	for deadline := time.Now().Add(emptyTimeout); ; time.Sleep(emptyPoll) {
		err := unix.Rmdir(g.Dir)
		if errors.Is(err, unix.EBUSY) {
			if dir, openErr := os.Open(g.Dir); openErr == nil {
				removeBelow(dir)
				err = unix.Rmdir(g.Dir)
			}
		}
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup %s: %w", g.Dir, err)
		}
	}
}

// removeBelow removes the cgroups below one, as far as they are empty, and closes it. Paths could be longer than the
// kernel takes.
func removeBelow(dir *os.File) {
	defer dir.Close()
	entries, _ := dir.ReadDir(-1)
	for _, entry := range entries {
		if !entry.IsDir() || unix.Unlinkat(int(dir.Fd()), entry.Name(), unix.AT_REMOVEDIR) == nil {
			continue
		}
		fd, err := unix.Openat(int(dir.Fd()), entry.Name(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		removeBelow(os.NewFile(uintptr(fd), entry.Name()))
		unix.Unlinkat(int(dir.Fd()), entry.Name(), unix.AT_REMOVEDIR)
	}
}

// OwnV1 is this process's cgroup, of those that OwnFolders gave, in the hierarchy of version 1 that has the
// controller; nil if there is none.
func OwnV1(own map[string]cgroup.Folder, controller string) *cgroup.Folder {
	if hierarchy := cgroup.Hierarchy(own, controller); hierarchy != "" {
		folder := own[hierarchy]
		return &folder
	}
	return nil
}

// OwnV2 is this process's cgroup of version 2; nil if its hierarchy is not mounted.
func OwnV2(own map[string]cgroup.Folder) *cgroup.Folder {
	if folder, ok := own[""]; ok {
		return &folder
	}
	return nil
}
