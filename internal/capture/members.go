package capture

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// maxMembers bounds the threads of a process group or a user that are listed.
const maxMembers = 1024

// identity is what setpriority(2) chooses threads by.
type identity struct {
	ids, groups []int // in each pid namespace from this process's to the thread's own
	uid         uint32
}

// readIdentity reads it; the ids are empty if the thread is gone.
func readIdentity(thread int) (i identity) {
	status, err := os.ReadFile(procPath(thread, "status"))
	if err != nil {
		return identity{}
	}
	for line := range bytes.Lines(status) {
		key, rest, _ := bytes.Cut(line, colon)
		var numbers []int32
		switch string(key) {
		case "NSpid":
			if parseNumbers(rest, &numbers) == nil {
				i.ids = toInts(numbers)
			}
		case "NSpgid":
			if parseNumbers(rest, &numbers) == nil {
				i.groups = toInts(numbers)
			}
		case "Uid":
			var uids []uint32
			if parseNumbers(rest, &uids) == nil && len(uids) > 0 {
				i.uid = uids[0]
			}
		}
	}
	if len(i.groups) != len(i.ids) {
		return identity{}
	}
	return i
}

// listThreads lists the threads that setpriority(2) means, by their ids in the pid namespace of the thread: of a
// process group there (0: the thread's own), or of a user. EOPNOTSUPP: what is meant goes beyond that namespace,
// since it is this process's own, or the group is of another one.
func (s *Set) listThreads(tid int, h *Handle) unix.Errno {
	own := readIdentity(tid)
	ns, errno := openFile(procPath(tid, "ns/pid"), unix.O_RDONLY)
	if errno != 0 || len(own.ids) == 0 {
		return unix.ESRCH
	}
	defer unix.Close(ns)
	m := members{ns: ns, level: len(own.ids) - 1, group: int(h.Number), uid: uint32(h.Number), byUser: h.Part == PartUserThreads}
	if !m.byUser && m.group == 0 {
		m.group = own.groups[m.level]
	}
	if m.level == 0 || !m.byUser && m.group <= 0 {
		return unix.EOPNOTSUPP
	}
	_, err := linux.PIDIn(ns, tid)
	m.scans = errors.Is(err, unix.ENOTTY)
	processes, err := numbersIn("/proc")
	if err != nil {
		return toErrno(err)
	}
	for _, process := range processes {
		if err := m.add(process); err != nil {
			return toErrno(err)
		}
	}
	h.Text = m.text
	return 0
}

// members are the threads that are looked for, and found.
type members struct {
	ns     int  // the pid namespace
	level  int  // of it below this process's own
	scans  bool // the kernel cannot be asked who is in it
	byUser bool
	group  int
	uid    uint32

	found int
	text  []byte
}

// add adds the threads of a process. Of one that is not in the namespace nothing is read: another container could hold
// up who does (Since), and the caller would be blamed for that.
func (m *members) add(process int) error {
	if _, err := linux.PIDIn(m.ns, process); err != nil && !m.scans {
		return nil
	}
	leader := readIdentity(process)
	if len(leader.ids) <= m.level || !m.byUser && leader.groups[m.level] != m.group {
		return nil
	}
	if inside, err := m.scan(process, leader); err != nil || !inside {
		return err
	}
	threads, err := numbersIn(fmt.Sprintf("/proc/%d/task", process))
	if err != nil {
		return nil // it has ended
	}
	for _, thread := range threads {
		i := readIdentity(thread)
		if len(i.ids) <= m.level || m.byUser && i.uid != m.uid {
			continue
		}
		// The number may have become another thread's.
		if id, err := linux.PIDIn(m.ns, thread); !m.scans && (err != nil || id != i.ids[m.level]) {
			continue
		}
		if m.found++; m.found > maxMembers {
			return unix.E2BIG
		}
		m.text = append(strconv.AppendInt(m.text, int64(i.ids[m.level]), 10), ' ')
	}
	return nil
}

// scan reports whether a process is in the namespace, on kernels that cannot be asked.
func (m *members) scan(process int, leader identity) (bool, error) {
	if !m.scans {
		return true, nil
	}
	namespace, err := FstatNamespace(m.ns)
	if err != nil {
		return false, err
	}
	inside, err := scan{tid: leader.ids[m.level], namespace: namespace, level: m.level}.names(process)
	if errors.Is(err, os.ErrProcessDone) {
		return false, nil
	}
	return inside, err
}
