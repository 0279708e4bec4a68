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

	"github.com/intercede/intercede/internal/cgroup"
	"golang.org/x/sys/unix"
)

// leafName is the cgroup into which DelegatedParent moves this process.
const leafName = "intercede-broker"

// ErrNotDelegated means that this process may not give cgroups of version 2 controllers where it is.
var ErrNotDelegated = errors.New("its cgroup is not delegated")

// DelegatedParent returns the cgroup of version 2 below which this process, whose own cgroup it is, may make cgroups
// with these controllers. The error wraps ErrNotDelegated if there is none.
//
// A cgroup with processes in it, other than the root, cannot give its children controllers (cgroups(7), "no internal
// processes"). So this process moves to a child of its own cgroup if that is its to manage: delegated by systemd
// (Delegate=), or all that it sees of the hierarchy, as in a container. Where systemd has put it into such a child
// (DelegateSubgroup=) it stays there.
func DelegatedParent(own cgroup.Folder, controllers ...string) (string, error) {
	above := filepath.Dir(own.Path)
	switch {
	case own.Path != own.Top && (isDelegated(above) || filepath.Base(own.Path) == leafName):
		return above, enable(above, controllers)
	case isRoot(own.Path):
		return own.Path, enable(own.Path, controllers)
	case own.Path == own.Top || isDelegated(own.Path):
		if err := moveToLeaf(own.Path); err != nil {
			return "", err
		}
		return own.Path, enable(own.Path, controllers)
	}
	return "", fmt.Errorf("cgroup %s: %w: with systemd, Delegate=yes", own.Path, ErrNotDelegated)
}

// isRoot reports whether the cgroup is the root of the hierarchy, which has no type (cgroups(7)).
func isRoot(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "cgroup.type"))
	return errors.Is(err, fs.ErrNotExist)
}

// isDelegated reports whether systemd says that the cgroup is for its processes to manage.
func isDelegated(dir string) bool {
	for _, name := range []string{"trusted.delegate", "user.delegate"} {
		value := make([]byte, 1)
		if n, err := unix.Getxattr(dir, name, value); err == nil && string(value[:n]) == "1" {
			return true
		}
	}
	return false
}

// enable gives the cgroup's children the controllers.
func enable(dir string, controllers []string) error {
	file := filepath.Join(dir, "cgroup.subtree_control")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	enabled := strings.Fields(string(text))
	for _, c := range controllers {
		if slices.Contains(enabled, c) {
			continue
		}
		if err := os.WriteFile(file, []byte("+"+c), 0); err != nil {
			return fmt.Errorf("give the children of cgroup %s the controller %s: %w", dir, c, err)
		}
	}
	return nil
}

// moveToLeaf moves this process to a child of its cgroup.
func moveToLeaf(own string) error {
	leaf := filepath.Join(own, leafName)
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make a cgroup for this process, so that its own can have others: %w", err)
	}
	if err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		return fmt.Errorf("move to a cgroup of this process alone: %w", err)
	}
	return nil
}
