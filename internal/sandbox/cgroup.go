package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/intercede/intercede/internal/cgroup"
	"github.com/intercede/intercede/internal/cgroup/limit"
	"github.com/intercede/intercede/internal/device"
	"golang.org/x/sys/unix"
)

const (
	// groupPrefix begins the names of plugins' cgroups.
	groupPrefix = "intercede-plugin-"

	// DefaultMemory and DefaultTasks are the limits of a plugin that is given none.
	DefaultMemory = 512 << 20 // bytes
	DefaultTasks  = 4096

	// mappedOnly is what a program in Go may map beyond what it uses, in bytes: RLIMIT_DATA counts that too.
	mappedOnly = 256 << 20

	// maxThreads bounds the threads of a plugin's user, where a cgroup bounds those of each of its processes: above
	// what the Go runtime has at most for one process (10,000), for several brokers.
	maxThreads = 1 << 16
)

// Limits are what a plugin's process and those that it forks may use together. Zero: the default.
type Limits struct {
	Memory int64 // bytes
	Tasks  int64 // processes and threads
}

func (l Limits) orDefault() Limits {
	return Limits{Memory: cmp.Or(l.Memory, DefaultMemory), Tasks: cmp.Or(l.Tasks, DefaultTasks)}
}

// cgroups are those of one run of a plugin, below this process's own.
type cgroups struct {
	unified *limit.Group   // of version 2; nil: none
	others  []*limit.Group // of version 1
	memory  *limit.Group   // that limits memory; nil: none
	// What no cgroup limits, because this host has none for it.
	memoryFree, tasksFree, devicesFree error
}

// errNoController means that no hierarchy of cgroups that is mounted has the controller.
var errNoController = errors.New("no cgroup hierarchy with the controller is mounted")

// newCgroups makes cgroups that limit a plugin. The error is of what ought to work here.
func newCgroups(name string, limits Limits, devices []device.Rule) (groups *cgroups, err error) {
	groups = &cgroups{}
	defer func() {
		if err != nil {
			groups.remove()
		}
	}()
	own, err := cgroup.OwnFolders()
	if err != nil {
		return nil, fmt.Errorf("find this process's cgroups: %w", err)
	}
	maker := groupMaker{groups, own, groupPrefix + name + "-"}
	if groups.memoryFree, err = unavailable(maker.limitMemory(limits.Memory)); err != nil {
		return nil, err
	}
	if groups.tasksFree, err = unavailable(maker.limitTasks(limits.Tasks)); err != nil {
		return nil, err
	}
	if groups.devicesFree, err = unavailable(maker.limitDevices(devices)); err != nil {
		return nil, err
	}
	return groups, nil
}

// unavailable tells what this host has not from what fails.
func unavailable(err error) (missing, failure error) {
	for _, lacking := range []error{
		errNoController, limit.ErrNotDelegated, ebpf.ErrNotSupported, fs.ErrNotExist, fs.ErrPermission, unix.EROFS, unix.EBUSY,
		unix.EOPNOTSUPP,
	} {
		if errors.Is(err, lacking) {
			return err, nil
		}
	}
	return nil, err
}

// groupMaker makes the cgroups of one run.
type groupMaker struct {
	groups *cgroups
	own    map[string]cgroup.Folder
	prefix string
}

func (m groupMaker) limitMemory(bytes int64) error {
	group, version, err := m.groupWith("memory")
	if err != nil {
		return err
	}
	m.groups.memory = group
	return group.LimitMemory(version, bytes)
}

func (m groupMaker) limitTasks(tasks int64) error {
	group, _, err := m.groupWith("pids")
	if err != nil {
		return err
	}
	return group.LimitTasks(tasks)
}

// limitDevices prefers version 2, where the limit is a program.
func (m groupMaker) limitDevices(rules []device.Rule) error {
	if own := limit.OwnV2(m.own); own != nil {
		group, err := m.unified(own.Path)
		if err == nil {
			err = group.AllowDevices(rules)
		}
		if !errors.Is(err, ebpf.ErrNotSupported) {
			return err
		}
	}
	own := limit.OwnV1(m.own, "devices")
	if own == nil {
		return errNoController
	}
	group, err := m.other(own.Path)
	if err != nil {
		return err
	}
	return group.AllowDevicesV1(rules)
}

// groupWith returns the cgroup that has the controller.
func (m groupMaker) groupWith(controller string) (group *limit.Group, version int, err error) {
	if own := limit.OwnV1(m.own, controller); own != nil {
		group, err = m.other(own.Path)
		return group, 1, err
	}
	own := limit.OwnV2(m.own)
	if own == nil {
		return nil, 0, errNoController
	}
	parent, err := limit.DelegatedParent(*own, controller)
	if err != nil {
		return nil, 0, err
	}
	group, err = m.unified(parent)
	return group, 2, err
}

// unified returns the cgroup of version 2, which it makes if there is none yet.
func (m groupMaker) unified(parent string) (group *limit.Group, err error) {
	if m.groups.unified == nil {
		m.groups.unified, err = m.make(parent)
	}
	return m.groups.unified, err
}

// other returns the cgroup of version 1 below the parent, which it makes if there is none yet: one hierarchy can have
// several controllers.
func (m groupMaker) other(parent string) (*limit.Group, error) {
	for _, group := range m.groups.others {
		if filepath.Dir(group.Dir) == parent {
			return group, nil
		}
	}
	group, err := m.make(parent)
	if err == nil {
		m.groups.others = append(m.groups.others, group)
	}
	return group, err
}

// swept are the parents below which this process has removed what killed brokers left.
var swept sync.Map

// make makes a cgroup. The first time it removes those of brokers that were killed: the folder of the parent may be
// long.
func (m groupMaker) make(parent string) (*limit.Group, error) {
	if _, before := swept.LoadOrStore(parent, true); !before {
		limit.RemoveStale(parent, groupPrefix)
	}
	return limit.MakeLocked(parent, m.prefix)
}

// starved reports whether the kernel has killed tasks of the cgroups since memory, theirs or the host's, was used up,
// or nothing tells.
func (gs *cgroups) starved() bool {
	if gs == nil || gs.memory == nil {
		return true
	}
	kills, err := gs.memory.OOMKills()
	return err != nil || kills > 0
}

func (gs *cgroups) all() []*limit.Group {
	if gs.unified == nil {
		return gs.others
	}
	return append([]*limit.Group{gs.unified}, gs.others...)
}

// enterV2 has the process that is started with these attributes be in the cgroup of version 2 (CLONE_INTO_CGROUP,
// clone(2)).
func (gs *cgroups) enterV2(attributes *syscall.SysProcAttr) {
	if gs.unified != nil {
		attributes.UseCgroupFD, attributes.CgroupFD = true, gs.unified.Fd()
	}
}

// joined are the files by which a thread joins the cgroups of version 1: alone, without the wait for a grace period of
// RCU that a process takes (cgroup_procs_write_start, kernel/cgroup/cgroup.c). The thread that becomes the plugin is
// enough.
func (gs *cgroups) joined() (files []string) {
	for _, group := range gs.others {
		files = append(files, filepath.Join(group.Dir, "tasks"))
	}
	return files
}

// remove kills what the plugin has left and removes the cgroups. What cannot end now is left to a later start.
func (gs *cgroups) remove() {
	for _, group := range gs.all() {
		if group != gs.unified {
			group.LimitTasks(0) // nothing may be forked while one after the other is killed
		}
		group.Kill()
	}
	for _, group := range gs.all() {
		group.Remove()
		group.Close()
		limit.RemoveStale(filepath.Dir(group.Dir), groupPrefix) // what could not end at the first time
	}
}

// weaknesses says what no cgroup limits.
func (gs *cgroups) weaknesses() []string {
	var texts []string
	for what, missing := range map[string]error{
		"devices, which they open and make as their capabilities let them":  gs.devicesFree,
		"tasks; RLIMIT_NPROC bounds those of plugins without CAP_SYS_ADMIN": gs.tasksFree,
		"memory; RLIMIT_DATA bounds that of each process":                   gs.memoryFree,
	} {
		if missing != nil {
			texts = append(texts, fmt.Sprintf("no cgroup limits their %s (%v)", what, missing))
		}
	}
	slices.Sort(texts)
	return texts
}

// join moves the calling thread into cgroups of version 1.
func join(files []string) error {
	for _, file := range files {
		if err := os.WriteFile(file, []byte("0"), 0); err != nil {
			return fmt.Errorf("join a cgroup: %w", err)
		}
	}
	return nil
}
