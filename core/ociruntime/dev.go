package ociruntime

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The tmpfs that an OCI runtime mounts on /dev belongs to the container's user namespace, so that device nodes on it
// cannot be opened (SB_I_NODEV, alloc_super in fs/super.c). One that this process mounts belongs to the initial user
// namespace, as the root filesystem does.
//
// A runtime makes the devices, links and console of /dev on whatever it finds there, unless config.json itself binds
// a directory on /dev (needsSetupDev in runc, mount_dev_from_host in crun). So the tmpfs is mounted on /dev of the
// root filesystem before the runtime begins, and the runtime reads a config.json without that mount. Both are mounts
// in a mount namespace of the runtime: the bundle stays as it is, and the kernel removes them when the runtime ends
// or fails.

// devSpec is what a config.json says of /dev.
type devSpec struct {
	Root   *specs.Root   `json:"root"`
	Mounts []specs.Mount `json:"mounts"`
	Linux  struct {
		Namespaces  []specs.LinuxNamespace `json:"namespaces"`
		UIDMappings []specs.LinuxIDMapping `json:"uidMappings"`
		GIDMappings []specs.LinuxIDMapping `json:"gidMappings"`
		MountLabel  string                 `json:"mountLabel"`
	} `json:"linux"`
}

// devPlan is the tmpfs that is mounted on /dev.
type devPlan struct {
	spec       devSpec
	parameters map[string]string // of the tmpfs
	attributes int               // of its mount: unix.MOUNT_ATTR_*
	text       []byte            // of config.json without that mount
}

// devAttributes are the options of a mount on /dev that are flags of it.
var devAttributes = map[string]int{
	"rw": 0, "nosuid": unix.MOUNT_ATTR_NOSUID, "noexec": unix.MOUNT_ATTR_NOEXEC,
	"relatime": unix.MOUNT_ATTR_RELATIME, "strictatime": unix.MOUNT_ATTR_STRICTATIME, "noatime": unix.MOUNT_ATTR_NOATIME,
}

// devParameters are those that are the filesystem's (tmpfs(5)).
var devParameters = []string{"mode", "size", "nr_inodes", "nr_blocks"}

// makesNodes reports whether a plugin makes device nodes for the container.
func makesNodes(manifests []*wire.Manifest) bool {
	return slices.ContainsFunc(manifests, func(m *wire.Manifest) bool {
		return slices.ContainsFunc(m.GetSyscalls(), func(s *wire.Syscall) bool {
			return s.GetName() == "mknod" || s.GetName() == "mknodat"
		})
	})
}

// mountDev mounts the tmpfs on /dev that the runtime would mount. With an error the runtime mounts its own.
//
// It moves the calling thread, which is to execute the runtime, into a mount namespace of its own.
func mountDev(c command, file *configFile) error {
	plan, err := planDev(file.text)
	if err != nil {
		return err
	}
	tmpfs, err := plan.newTmpfs()
	if err != nil {
		return err
	}
	defer tmpfs.Close()
	if err := leaveHostMounts(); err != nil {
		return err
	}
	dev, err := openDev(c.inBundle(plan.spec.Root.Path))
	if err != nil {
		return err
	}
	defer dev.Close()
	// A runtime that reads config.json as it was mounts its tmpfs over this one. The other way round it would make the
	// devices in the root filesystem.
	return file.replaceHere(plan.text, func() error { return linux.AttachOn(tmpfs, dev) })
}

// replaceHere has a file with the text at the place of config.json, in the thread's mount namespace alone. It calls
// before when nothing but that is left to do.
func (f *configFile) replaceHere(text []byte, before func() error) error {
	replaced, err := os.OpenFile(f.path, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer replaced.Close()
	name, err := f.writeBeside(text)
	if err != nil {
		return err
	}
	defer os.Remove(name) // the mount keeps the file, and a file without a name cannot be moved there
	file, err := linux.CloneMount(name, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := before(); err != nil {
		return err
	}
	return linux.AttachOn(file, replaced)
}

// planDev errors say why a config.json does not allow for another tmpfs: whatever is not understood in full is the
// runtime's.
func planDev(text []byte) (devPlan, error) {
	p := devPlan{parameters: map[string]string{}}
	if err := json.Unmarshal(text, &p.spec); err != nil {
		return p, err
	}
	index, err := p.spec.findDev()
	if err != nil {
		return p, err
	}
	if err := p.addOptions(p.spec.Mounts[index]); err != nil {
		return p, fmt.Errorf("the mount on /dev: %w", err)
	}
	p.text, err = removeMount(text, index)
	return p, err
}

// findDev finds the one mount on /dev.
func (s *devSpec) findDev() (index int, err error) {
	if s.Root == nil || s.Root.Path == "" {
		return 0, errors.New("config.json names no root filesystem")
	}
	if !slices.Contains(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.MountNamespace}) {
		return 0, errors.New("the container has no mount namespace of its own")
	}
	index = -1
	for i, m := range s.Mounts {
		switch target := filepath.Join("/", m.Destination); {
		case target == "/":
			return 0, errors.New("something is mounted on /")
		case strings.HasPrefix(target, "/dev/") && index < 0:
			return 0, fmt.Errorf("%s is mounted before /dev", target)
		case target == "/dev" && index >= 0:
			return 0, errors.New("two mounts are on /dev")
		case target == "/dev":
			index = i
		}
	}
	if index < 0 {
		return 0, errors.New("nothing is mounted on /dev")
	}
	return index, nil
}

func (p *devPlan) addOptions(m specs.Mount) error {
	if m.Type != "tmpfs" || len(m.UIDMappings)+len(m.GIDMappings) > 0 {
		return errors.New("it is not a tmpfs")
	}
	for _, option := range m.Options {
		name, value, _ := strings.Cut(option, "=")
		attribute, known := devAttributes[option]
		switch {
		case known:
			p.attributes |= attribute
		case slices.Contains(devParameters, name) && value != "":
			p.parameters[name] = value
		default:
			return fmt.Errorf("it has the option %q", option)
		}
	}
	if p.parameters["mode"] == "" {
		return errors.New("it has no mode") // runtimes differ in what that means
	}
	p.parameters["source"] = m.Source
	if label := p.spec.Linux.MountLabel; label != "" {
		p.parameters["context"] = label // as runtimes do (SELinux)
	}
	return nil
}

// newTmpfs makes the tmpfs, which belongs to the container's root as one that it had mounted would.
func (p *devPlan) newTmpfs() (*os.File, error) {
	if host, err := linux.InHostUserNamespace(); err != nil || !host {
		return nil, errors.Join(err, errors.New("this process is in a user namespace itself"))
	}
	uid, gid, err := p.spec.rootIDs()
	if err != nil {
		return nil, fmt.Errorf("the container's root: %w", err)
	}
	p.parameters["uid"], p.parameters["gid"] = strconv.FormatUint(uint64(uid), 10), strconv.FormatUint(uint64(gid), 10)
	return linux.NewMount("tmpfs", p.parameters, p.attributes)
}

// rootIDs are the host's IDs of the container's user and group 0.
func (s *devSpec) rootIDs() (uid, gid uint32, err error) {
	for _, n := range s.Linux.Namespaces {
		if n.Type == specs.UserNamespace && n.Path != "" {
			return rootIDsOf(n.Path)
		}
	}
	isRoot := func(m specs.LinuxIDMapping) bool { return m.ContainerID == 0 && m.Size > 0 }
	user, group := slices.IndexFunc(s.Linux.UIDMappings, isRoot), slices.IndexFunc(s.Linux.GIDMappings, isRoot)
	if user < 0 || group < 0 {
		return 0, 0, errUnmapped
	}
	return s.Linux.UIDMappings[user].HostID, s.Linux.GIDMappings[group].HostID, nil
}

// overflowID is what the kernel shows for an ID that is not mapped.
const overflowID = 65534

var errUnmapped = errors.New("user or group 0 is not mapped")

// rootIDsOf asks the kernel for the host's IDs of user and group 0 in a user namespace: they own what is root's on a
// mount that has the namespace's maps. For a tmpfs that takes kernel 6.3.
func rootIDsOf(userNamespace string) (uid, gid uint32, err error) {
	namespace, err := os.Open(userNamespace)
	if err != nil {
		return 0, 0, err
	}
	defer namespace.Close()
	mount, err := linux.NewMount("tmpfs", nil, 0)
	if err != nil {
		return 0, 0, err
	}
	defer mount.Close()
	mapped := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(namespace.Fd())}
	if err := unix.MountSetattr(int(mount.Fd()), "", unix.AT_EMPTY_PATH, &mapped); err != nil {
		return 0, 0, fmt.Errorf("the maps of %s, which takes kernel 6.3: %w", userNamespace, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(mount.Fd()), &st); err != nil {
		return 0, 0, os.NewSyscallError("fstat", err)
	}
	if st.Uid == overflowID || st.Gid == overflowID {
		return 0, 0, errUnmapped
	}
	return st.Uid, st.Gid, nil
}

// leaveHostMounts gives the thread a mount namespace of its own. What the host mounts and unmounts reaches it, and
// nothing reaches the host from there.
func leaveHostMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("separate the mounts of a mount namespace: %w", err)
	}
	return nil
}

// openDev opens /dev of the root filesystem. The container's author made it: a link is not followed, since it leads
// somewhere else for this process than in the container. The host's /dev is refused, which the runtime needs.
func openDev(root string) (*os.File, error) {
	dir, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	dev, err := unix.Openat(int(dir.Fd()), "dev", unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("dev of the root filesystem %s, which has to be a directory: %w", root, err)
	}
	file := os.NewFile(uintptr(dev), filepath.Join(root, "dev"))
	if err := checkNotOwn(file); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// checkNotOwn makes sure that the directory is not this process's /dev.
func checkNotOwn(dev *os.File) error {
	info, err := dev.Stat()
	if err != nil {
		return err
	}
	own, err := os.Stat("/dev")
	if err == nil && os.SameFile(info, own) {
		err = fmt.Errorf("%s is the host's /dev", dev.Name())
	}
	return err
}
