package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/intercede/intercede/internal/device"
	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// nodeSpec is a device node of --device.
type nodeSpec struct {
	Source string // of the host
	Target string // in the container
	rule   device.Rule
	stat   unix.Stat_t
	text   string // as it was given
}

const nodeForm = "want SOURCE[:TARGET[:ACCESS]], such as \"/dev/fuse\" or \"/dev/loop7:/dev/disk:rw\": SOURCE and TARGET are absolute " +
	"paths, and ACCESS has r, w, m"

var nodeAccess = regexp.MustCompile(`^[rwm]+$`)

// parseNodes reads SOURCE[:TARGET[:ACCESS]]. As with podman, a node may be there twice.
func parseNodes(texts []string) ([]nodeSpec, error) {
	var nodes []nodeSpec
	for _, text := range texts {
		n, err := parseNode(text)
		if err != nil {
			return nil, fmt.Errorf("device %q: %w", text, err)
		}
		if !slices.ContainsFunc(nodes, n.is) {
			nodes = append(nodes, n)
		}
	}
	return nodes, nil
}

func (n *nodeSpec) is(other nodeSpec) bool {
	return n.Source == other.Source && n.Target == other.Target && n.rule == other.rule
}

func parseNode(text string) (n nodeSpec, err error) {
	parts := strings.Split(text, ":")
	n.Source, n.Target, n.text = filepath.Clean(parts[0]), filepath.Clean(parts[0]), fmt.Sprintf("device %q", text)
	access := "rwm"
	switch {
	case len(parts) == 2 && !filepath.IsAbs(parts[1]):
		access = parts[1]
	case len(parts) == 2:
		n.Target = filepath.Clean(parts[1])
	case len(parts) == 3:
		n.Target, access = filepath.Clean(parts[1]), parts[2]
	}
	if len(parts) > 3 || !filepath.IsAbs(n.Source) || !filepath.IsAbs(n.Target) || n.Target == "/" || !nodeAccess.MatchString(access) {
		return n, errors.New(nodeForm)
	}
	if err := unix.Stat(n.Source, &n.stat); err != nil {
		return n, fmt.Errorf("stat: %w", err)
	}
	kind := ""
	switch n.stat.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		kind = "c"
	case unix.S_IFBLK:
		kind = "b"
	default:
		return n, errors.New("it is not a device node")
	}
	rules, err := device.ParseRules([]string{fmt.Sprintf("%s %d:%d %s", kind, unix.Major(n.stat.Rdev), unix.Minor(n.stat.Rdev), access)})
	if err != nil {
		return n, err
	}
	n.rule = rules[0]
	return n, nil
}

// splitNodes tells the nodes that can be made in the container's /dev itself from those that have to be mounted. A node
// that is a mount is in the way of umount(8), which takes the name of a device for that of a mount if it is one.
func splitNodes(nodes []nodeSpec, mounts []mountSpec) (inDev, mounted []nodeSpec) {
	for _, n := range nodes {
		if n.fitsDev() && !slices.ContainsFunc(mounts, func(m mountSpec) bool { return m.Target == "/dev" }) {
			inDev = append(inDev, n)
		} else {
			mounted = append(mounted, n)
		}
	}
	return inDev, mounted
}

// fitsDev reports whether the node is directly in /dev, under a name that layDevices and openTerminal leave free.
func (n *nodeSpec) fitsDev() bool {
	dir, name := filepath.Split(n.Target)
	_, isLink := deviceLinks[name]
	return dir == "/dev/" && !isLink && !slices.Contains(deviceNames, name) && !slices.Contains([]string{"pts", "shm", "mqueue", "console"}, name)
}

// makeNodes makes the nodes anew, as detached mounts. A copy of the host's own node would be nobody's in the container.
//
// It changes the calling thread's mount namespace, working directory and umask.
func makeNodes(nodes []nodeSpec, uids, gids idMap) (files []*os.File, err error) {
	if len(nodes) == 0 {
		return nil, nil
	}
	if err := enterScratch(); err != nil {
		return nil, err
	}
	for i, n := range nodes {
		name := strconv.Itoa(i)
		err := n.make(unix.AT_FDCWD, name, uids, gids)
		var file *os.File
		if err == nil {
			file, err = linux.CloneMount(name, 0)
		}
		if err != nil {
			closeFiles(files...)
			return nil, fmt.Errorf("device node %s: %w", n.Source, err)
		}
		files = append(files, file)
	}
	return files, nil
}

// makeInDev makes the nodes in the tmpfs that becomes the container's /dev.
func makeInDev(dev *os.File, nodes []nodeSpec, uids, gids idMap) error {
	for _, n := range nodes {
		if err := n.make(int(dev.Fd()), filepath.Base(n.Target), uids, gids); err != nil {
			return fmt.Errorf("device node %s: %w", n.Source, err)
		}
	}
	return nil
}

// make makes the node with the host's mode, and owned by the ids of the container that have the numbers of the host's
// owners.
func (n *nodeSpec) make(dir int, name string, uids, gids idMap) error {
	if err := unix.Mknodat(dir, name, n.stat.Mode, int(n.stat.Rdev)); err != nil {
		return err
	}
	if err := unix.Fchownat(dir, name, uids.outside(n.stat.Uid), gids.outside(n.stat.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.Fchmodat(dir, name, n.stat.Mode&0o777, 0)
}

// layNodes puts those that are mounts into the container.
func layNodes(targets []string, files []*os.File) error {
	for i, target := range targets {
		if err := layOn(files[i], target); err != nil {
			return err
		}
	}
	return nil
}
