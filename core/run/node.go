package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
}

// parseNodes reads SOURCE[:TARGET[:ACCESS]].
func parseNodes(texts []string) ([]nodeSpec, error) {
	var nodes []nodeSpec
	for _, text := range texts {
		n, err := parseNode(text)
		if err != nil {
			return nil, fmt.Errorf("device %q: %w", text, err)
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

func parseNode(text string) (n nodeSpec, err error) {
	const most = 3
	parts := strings.SplitN(text, ":", most)
	n.Source, n.Target = parts[0], parts[0]
	access := "rwm"
	if len(parts) > 1 && filepath.IsAbs(parts[1]) {
		n.Target = filepath.Clean(parts[1])
	} else if len(parts) > 1 {
		access = parts[1]
	}
	if len(parts) == most {
		access = parts[2]
	}
	if !filepath.IsAbs(n.Source) || n.Target == "/" {
		return n, errors.New("want SOURCE[:TARGET[:ACCESS]], such as \"/dev/fuse\" or \"/dev/loop7:/dev/disk:rw\", with absolute paths")
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

// makeNodes makes the nodes anew, as detached mounts: with the host's mode, and owned by the ids of the container that
// have the numbers of the host's owners. A copy of the host's own node would be nobody's in the container.
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
		file, err := n.make(strconv.Itoa(i), uids, gids)
		if err != nil {
			closeFiles(files...)
			return nil, fmt.Errorf("device node %s: %w", n.Source, err)
		}
		files = append(files, file)
	}
	return files, nil
}

func (n *nodeSpec) make(name string, uids, gids idMap) (*os.File, error) {
	if err := unix.Mknod(name, n.stat.Mode, int(n.stat.Rdev)); err != nil {
		return nil, err
	}
	if err := unix.Chown(name, uids.outside(n.stat.Uid), gids.outside(n.stat.Gid)); err != nil {
		return nil, err
	}
	if err := unix.Chmod(name, n.stat.Mode&0o777); err != nil {
		return nil, err
	}
	return linux.CloneMount(name, 0)
}

// layNodes puts them into the container.
func layNodes(targets []string, files []*os.File) error {
	for i, target := range targets {
		if err := makeMountPoint(files[i], target); err != nil {
			return err
		}
		if err := linux.Attach(files[i], target); err != nil {
			return err
		}
	}
	return nil
}
