package capture

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

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

// listing has one list made at a time: each reads all of /proc.
var listing sync.Mutex

// listThreads lists the threads that setpriority(2) means, by their ids in the pid namespace of the thread: of a
// process group there (0: the thread's own), or of a user. EOPNOTSUPP: what is meant goes beyond that namespace,
// since it is this process's own, or the group is of another one.
func (s *Set) listThreads(tid int, h *Handle) unix.Errno {
	listing.Lock()
	defer listing.Unlock()
	own := readIdentity(tid)
	namespace, err := StatNamespace(procPath(tid, "ns/pid"))
	if err != nil || len(own.ids) == 0 {
		return unix.ESRCH
	}
	m := members{level: len(own.ids) - 1, namespace: namespace, group: int(h.Number), uid: uint32(h.Number), byUser: h.Part == PartUserThreads}
	if !m.byUser && m.group == 0 {
		m.group = own.groups[m.level]
	}
	if m.level == 0 || !m.byUser && m.group <= 0 {
		return unix.EOPNOTSUPP
	}
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
	level     int // of the pid namespace below this process's own
	namespace NamespaceID
	byUser    bool
	group     int
	uid       uint32

	found int
	text  []byte
}

// add adds the threads of a process.
func (m *members) add(process int) error {
	leader := readIdentity(process)
	if len(leader.ids) <= m.level || !m.byUser && leader.groups[m.level] != m.group {
		return nil
	}
	inside, err := scan{tid: leader.ids[m.level], namespace: m.namespace, level: m.level}.names(process)
	if errors.Is(err, os.ErrProcessDone) || err == nil && !inside {
		return nil
	}
	if err != nil {
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
		if m.found++; m.found > maxMembers {
			return unix.E2BIG
		}
		m.text = append(strconv.AppendInt(m.text, int64(i.ids[m.level]), 10), ' ')
	}
	return nil
}
