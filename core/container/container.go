// Package container identifies the container that a listener belongs to, by what the kernel says.
package container

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/cgroup/denial"
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk/target"
)

// Container is who is behind a listener. It holds the user namespace open, so that its identity cannot be reused while
// the container is known.
type Container struct {
	Claim   // what its first listener came with
	InitPID int

	UserNamespace target.NamespaceID
	// Privileged says that the container's user namespace is the broker's own: only plugins that serve any container
	// have a use there.
	Privileged bool

	key            string
	uidMap, gidMap []*wire.IDMapping
	cgroups        map[string]string
	unconfirmed    map[string]string // cgroups that are not among them, because the container may have gone there
	devicesDenied  bool
	namespace      *os.File
}

// Claim is what a peer says of a container. Nothing in it but the pid is looked up, and the pid is the peer's word: see
// [Claim.Trusted].
type Claim struct {
	ID      string `json:"id"`               // empty: its name, or else its first process
	Runtime string `json:"runtime"`          // "oci", "lxc", "run"
	Name    string `json:"name,omitempty"`   // if it has one beside its ID
	Cookie  string `json:"cookie,omitempty"` // of LXC
	// EngineName and EngineImage are what the engine calls it, where it does not tell the runtime. Rules do not see
	// them.
	EngineName  string            `json:"engine_name,omitempty"`
	EngineImage string            `json:"engine_image,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// PeerUID is that of the process that delivered the listener, which must have a right to; nil: none did.
	PeerUID *uint32 `json:"peer_uid,omitempty"`
	// CgroupsPath is linux.cgroupsPath of the container's OCI config; empty: it is not known.
	CgroupsPath string `json:"cgroups_path,omitempty"`
	// PeerCgroups are what ReadPeer says of that process. Inspect takes the broker's own where PeerUID is nil, and does
	// not keep them.
	PeerCgroups map[string]string `json:"-"`
	PID         int               `json:"pid"` // a process of the container, in the broker's pid namespace
}

// Trusted reports whether the peer's word is enough for a listener being of this container: root's is. Another user
// could hand over the listener of any process of its own.
func (c Claim) Trusted() bool { return c.PeerUID == nil || *c.PeerUID == 0 }

// Inspect reads what the kernel knows of the container. The error wraps os.ErrProcessDone if the process is gone, and
// ErrNotOwner if the peer may not speak for it.
func Inspect(claim Claim) (*Container, error) {
	c, err := inspect(claim)
	if err != nil {
		return nil, fmt.Errorf("container %q, process %d: %w", claim.ID, claim.PID, err)
	}
	return c, nil
}

func inspect(claim Claim) (*Container, error) {
	process, err := target.Open(claim.PID)
	if err != nil {
		return nil, err
	}
	defer process.Close()
	c, err := inspectProcess(claim, process)
	return c, goneError(err, process)
}

// goneError is the error of something about the process, which has os.ErrProcessDone too if the process is gone by now:
// its /proc/PID is not there any more then.
func goneError(err error, process *target.Target) error {
	if err == nil {
		return nil
	}
	if gone := process.Alive(); errors.Is(gone, os.ErrProcessDone) && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%w: %w", os.ErrProcessDone, err)
	}
	return err
}

func inspectProcess(claim Claim, process *target.Target) (*Container, error) {
	proc := "/proc/" + strconv.Itoa(claim.PID)
	namespace, err := os.Open(proc + "/ns/user")
	if err != nil {
		return nil, err
	}
	if claim.PeerUID == nil {
		claim.PeerCgroups = ReadPeer(os.Getpid())
	}
	c := &Container{Claim: claim, InitPID: claim.PID, namespace: namespace}
	c.PeerCgroups = nil
	if err := c.read(claim, process, proc); err != nil {
		namespace.Close()
		return nil, err
	}
	return c, nil
}

// read reads the facts; the last step makes sure that they were of this process all along.
func (c *Container) read(claim Claim, process *target.Target, proc string) error {
	uids, err1 := readIDMap(proc + "/uid_map")
	gids, err2 := readIDMap(proc + "/gid_map")
	cgroups, unconfirmed, err3 := findCgroups(claim, claim.PID)
	own, err4 := target.StatNamespace("/proc/self/ns/user")
	user, err5 := process.UserNamespace()
	init, err6 := findInit(process)
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return err
	}
	c.uidMap, c.gidMap, c.UserNamespace, c.InitPID = uids, gids, user, init
	c.cgroups, c.unconfirmed = cgroups, unconfirmed
	c.Privileged = user == own
	c.devicesDenied = c.findDevicesDenied()
	c.identify()
	return c.CheckPeer(c.PeerUID)
}

// findDevicesDenied reports whether the container's cgroups keep it from device nodes that no rule names. It is asked
// when the container is attached: the container itself may come to attach programs that deny. What is not known is not
// denied. The files of an ordinary user's container are hers, and so are processes outside of its cgroups.
func (c *Container) findDevicesDenied() bool {
	if !c.isOfRoot() {
		return false
	}
	denied, _ := denial.Denies(c.cgroups[""])
	return denied
}

// findInit finds the container's init: the first process of the pid namespace that the process is in. An exec session
// names another process than init, and some runtimes give its pid instead of init's.
func findInit(process *target.Target) (int, error) {
	credentials, err := process.Credentials()
	if err != nil {
		return 0, err
	}
	if ids := credentials.PIDs; len(ids) < 2 || ids[len(ids)-1] == 1 {
		return process.TID(), nil
	}
	init, err := process.Thread(1)
	if err != nil {
		// It has no init any more, or none that is seen: the process itself stands for the container.
		return process.TID(), nil
	}
	defer init.Close()
	return init.TID(), nil
}

// Includes reports whether the thread is in the container's user namespace or below it: of whoever has that number now,
// so it counts if the thread is known to live afterwards.
func (c *Container) Includes(tid int) (bool, error) {
	own, err := target.StatNamespace("/proc/" + strconv.Itoa(tid) + "/ns/user")
	if err != nil || own == c.UserNamespace {
		return err == nil, err
	}
	thread, err := target.Open(tid)
	if err != nil {
		return false, err
	}
	defer thread.Close()
	return thread.InUserNamespace(c.UserNamespace)
}

// Close gives the user namespace back.
func (c *Container) Close() { c.namespace.Close() }

// Cgroups are the container's paths by the hierarchy's controllers (cgroups(7)), without those that the container may
// have chosen itself.
func (c *Container) Cgroups() map[string]string { return c.cgroups }

// UnconfirmedCgroups are paths of version 1 in which the container was found, and that are not among Cgroups: the
// container may have moved itself there.
func (c *Container) UnconfirmedCgroups() map[string]string { return c.unconfirmed }

// Wire is what plugins are told of the container.
func (c *Container) Wire() *wire.Container {
	return &wire.Container{
		Id: c.ID, Runtime: c.Runtime, Annotations: c.Annotations, InitPid: int32(c.InitPID),
		UserNamespaceDev: c.UserNamespace.Dev, UserNamespaceIno: c.UserNamespace.Ino,
		UidMap: c.uidMap, GidMap: c.gidMap, Cgroups: c.cgroups, CgroupShared: capture.CgroupShared(c.cgroups),
		DevicesDenied: c.devicesDenied,
	}
}

func procPath(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

// readIDMap reads uid_map or gid_map (user_namespaces(7)).
func readIDMap(path string) ([]*wire.IDMapping, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	mappings, err := parseIDMap(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return mappings, nil
}

func parseIDMap(text []byte) ([]*wire.IDMapping, error) {
	var mappings []*wire.IDMapping
	for line := range bytes.Lines(text) {
		var m wire.IDMapping
		if _, err := fmt.Sscan(string(line), &m.Inside, &m.Outside, &m.Length); err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		mappings = append(mappings, &m)
	}
	return mappings, nil
}
