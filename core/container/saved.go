package container

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// Saved is a container for the next broker, as JSON: what the kernel said of it when it was attached, and what cannot
// be asked later. The container's processes may have moved to other cgroups by then.
type Saved struct {
	Claim         Claim              `json:"claim"`
	Key           string             `json:"key"`
	InitPID       int                `json:"init_pid"`
	InitStart     uint64             `json:"init_start"` // of the first process, in clock ticks since boot; 0: not known
	UserNamespace target.NamespaceID `json:"user_namespace"`
	Privileged    bool               `json:"privileged,omitempty"`
	UIDMap        []*wire.IDMapping  `json:"uid_map"`
	GIDMap        []*wire.IDMapping  `json:"gid_map"`
	Cgroups       map[string]string  `json:"cgroups"`
	// CgroupsConfirmed says that Cgroups are without those of version 1 that the container may have chosen. Older
	// daemons took them from where its process was.
	CgroupsConfirmed bool `json:"cgroups_confirmed,omitempty"`
	DevicesDenied    bool `json:"devices_denied,omitempty"`
}

// ErrOther means that a user namespace is not the saved container's.
var ErrOther = errors.New("not the user namespace of the container")

// Save returns the container for Restore.
func (c *Container) Save() Saved {
	return Saved{
		Claim: c.Claim, Key: c.key, InitPID: c.InitPID, InitStart: startOf(c.InitPID), UserNamespace: c.UserNamespace, Privileged: c.Privileged,
		UIDMap: c.uidMap, GIDMap: c.gidMap, Cgroups: c.cgroups, CgroupsConfirmed: true, DevicesDenied: c.devicesDenied,
	}
}

// Restore makes a saved container again. namespace is the descriptor on its user namespace, which has stayed open since
// it was saved, so that no other can have the same identity; it belongs to the container afterwards. The error wraps
// ErrOther if it is another namespace.
func Restore(s Saved, namespace *os.File) (*Container, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(namespace.Fd()), &stat); err != nil {
		return nil, fmt.Errorf("container %q: its user namespace: %w", s.Claim.ID, err)
	}
	if found := (target.NamespaceID{Dev: stat.Dev, Ino: stat.Ino}); found != s.UserNamespace {
		return nil, fmt.Errorf("container %q: %w: it is %v, want %v", s.Claim.ID, ErrOther, found, s.UserNamespace)
	}
	c := &Container{
		Claim: s.Claim, key: s.Key, InitPID: s.InitPID, UserNamespace: s.UserNamespace, Privileged: s.Privileged,
		uidMap: s.UIDMap, gidMap: s.GIDMap, cgroups: s.Cgroups, namespace: namespace,
	}
	if !s.CgroupsConfirmed {
		c.cgroups, c.unconfirmed = s.Claim.confirm(s.Cgroups)
	}
	// An older daemon may have saved it for a user's container, or for a device cgroup of version 1.
	c.devicesDenied = s.DevicesDenied && c.findDevicesDenied()
	return c, nil
}

// Alive reports whether the container's first process has not ended.
func (s *Saved) Alive() bool { return s.InitStart != 0 && startOf(s.InitPID) == s.InitStart }

// Watched reports whether the container stays attached without a listener or a connection, as long as it lives: LXC's.
func (s *Saved) Watched() bool { return s.Claim.Runtime == "lxc" }

// Namespace is the descriptor on the container's user namespace.
func (c *Container) Namespace() *os.File { return c.namespace }

// startOf returns when a process started, in clock ticks since boot; 0 if there is none (proc_pid_stat(5)).
func startOf(pid int) uint64 {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // the process chooses its name
	const starttime = 22 - 3                                                  // the first of these is the third of all
	if len(fields) <= starttime {
		return 0
	}
	ticks, _ := strconv.ParseUint(fields[starttime], 10, 64)
	return ticks
}
