package capture

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// scan looks for a thread in /proc by its id in a pid namespace, for kernels that cannot be asked.
type scan struct {
	tid       int
	namespace NamespaceID
	level     int // of the namespace below this process's own, whose level is 0
}

// Scan is what finds the thread that has the id named in the pid namespace of the thread tid on kernels before 6.11.
// The error wraps unix.ESRCH if there is none.
func Scan(tid, named int) (int, error) {
	ids := namespacedIDs(tid)
	namespace, err := StatNamespace(procPath(tid, "ns/pid"))
	if err != nil || len(ids) == 0 {
		return 0, fmt.Errorf("thread %d: %w", tid, unix.ESRCH)
	}
	return scan{tid: named, namespace: namespace, level: len(ids) - 1}.run()
}

func (s scan) run() (int, error) {
	if s.tid <= 0 {
		return 0, unix.ESRCH
	}
	if s.level == 0 {
		return s.firstOf([]int{s.tid})
	}
	processes, err := numbersIn("/proc")
	if err != nil {
		return 0, err
	}
	for _, process := range processes {
		if s.idIn(process) == 0 {
			continue // not in the namespace; so none of its threads is
		}
		threads, err := numbersIn(fmt.Sprintf("/proc/%d/task", process))
		if err != nil {
			continue // it has ended
		}
		found, err := s.firstOf(threads)
		if !errors.Is(err, unix.ESRCH) {
			return found, err
		}
	}
	return 0, unix.ESRCH
}

// firstOf is the first of these threads that has the id in the namespace.
func (s scan) firstOf(threads []int) (int, error) {
	for _, thread := range threads {
		if s.idIn(thread) != s.tid {
			continue
		}
		named, err := s.names(thread)
		if errors.Is(err, os.ErrProcessDone) {
			continue
		}
		if named || err != nil {
			return thread, err
		}
	}
	return 0, unix.ESRCH
}

// idIn is the id of a thread at the namespace's level; 0 if it has none there, or is gone.
func (s scan) idIn(thread int) int {
	ids := namespacedIDs(thread)
	if len(ids) <= s.level {
		return 0
	}
	return ids[s.level]
}

// names reports whether the thread has the id, and has it in this very namespace: others are of the same level.
func (s scan) names(thread int) (bool, error) {
	hold, err := OpenThread(thread)
	if err != nil {
		return false, err
	}
	defer hold.Close()
	ids := namespacedIDs(thread)
	if len(ids) <= s.level || ids[s.level] != s.tid {
		return false, hold.Alive()
	}
	ns, err := unix.Open(procPath(thread, "ns/pid"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	for range len(ids) - 1 - s.level {
		if err != nil {
			break
		}
		ns, err = ParentNamespace(ns)
	}
	if err != nil {
		return false, ProcessError(fmt.Errorf("pid namespace of thread %d: %w", thread, err))
	}
	defer unix.Close(ns)
	namespace, err := FstatNamespace(ns)
	if err != nil {
		return false, err
	}
	return namespace == s.namespace, hold.Alive()
}

// namespacedIDs are the thread's ids in each pid namespace from this process's to its own (the NSpid line,
// proc_pid_status(5)); none if it is gone. A zombie has them too.
func namespacedIDs(thread int) []int {
	status, err := os.ReadFile(procPath(thread, "status"))
	if err != nil {
		return nil
	}
	return idsOf(status, "NSpid:")
}

// idsOf are the numbers of a line of /proc/TID/status; none if it is not as it should be.
func idsOf(status []byte, key string) []int {
	for line := range bytes.Lines(status) {
		rest, found := bytes.CutPrefix(line, []byte(key))
		if !found {
			continue
		}
		var ids []int32
		if parseNumbers(rest, &ids) != nil {
			return nil
		}
		return toInts(ids)
	}
	return nil
}

// numbersIn are the entries of a directory of procfs that are numbers.
func numbersIn(dir string) ([]int, error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, ProcessError(err)
	}
	defer file.Close()
	names, err := file.Readdirnames(-1)
	if err != nil {
		return nil, ProcessError(err)
	}
	var numbers []int
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			numbers = append(numbers, n)
		}
	}
	return numbers, nil
}

func toInts(numbers []int32) []int {
	ints := make([]int, len(numbers))
	for i, n := range numbers {
		ints[i] = int(n)
	}
	return ints
}
