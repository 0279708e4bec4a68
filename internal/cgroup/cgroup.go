// Package cgroup finds the cgroups of processes (cgroups(7)), of version 1, version 2 and both, and their folders.
package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/intercede/intercede/internal/mountinfo"
)

// Read reads a file /proc/PID/cgroup: the path of the process's cgroup in each hierarchy. A hierarchy is named by its
// controllers ("memory", "cpu,cpuacct") or itself ("name=systemd"), that of version 2 by "". The path is relative to
// the root of this process's cgroup namespace: what lies outside of that begins with "/..".
func Read(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	cgroups, err := parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return cgroups, nil
}

func parse(text string) (map[string]string, error) {
	cgroups := map[string]string{}
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 {
			return nil, fmt.Errorf("line %q: want ID:CONTROLLERS:PATH", line)
		}
		cgroups[fields[1]] = fields[2]
	}
	return cgroups, nil
}

// Hierarchy returns the name of the hierarchy that has the controller: one of version 1 among these, or else version 2.
func Hierarchy[T any](hierarchies map[string]T, controller string) string {
	for name := range hierarchies {
		if slices.Contains(strings.Split(name, ","), controller) {
			return name
		}
	}
	return ""
}

// Folder is a cgroup in the filesystem.
type Folder struct {
	Path string
	Top  string // the folder of the topmost cgroup that is seen there: Path or above it
}

// Folders finds the folders of cgroups that Read gave, by the same names, in this process's mount namespace. Those that
// are not seen there are left out: the hierarchy is not mounted, or the cgroup lies outside of what is mounted.
func Folders(cgroups map[string]string) (map[string]Folder, error) {
	mounts, err := mountinfo.OwnOf("cgroup")
	if err != nil {
		return nil, err
	}
	folders := map[string]Folder{}
	for hierarchy, path := range cgroups {
		if folder, ok := find(mounts, hierarchy, path); ok {
			folders[hierarchy] = folder
		}
	}
	return folders, nil
}

// OwnFolders are Folders of this process's own cgroups.
func OwnFolders() (map[string]Folder, error) {
	own, err := Read("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	return Folders(own)
}

// find finds a cgroup where most of what is above it is mounted.
func find(mounts []mountinfo.Mount, hierarchy, path string) (Folder, bool) {
	best, length := Folder{}, -1
	for _, m := range mounts {
		if below, ok := relative(path, m.Root); ok && isOf(m, hierarchy) && len(below) > length {
			best, length = Folder{Path: filepath.Join(m.Point, below), Top: filepath.Clean(m.Point)}, len(below)
		}
	}
	return best, length >= 0
}

// isOf reports whether the mount is of the hierarchy.
func isOf(m mountinfo.Mount, hierarchy string) bool {
	if hierarchy == "" {
		return m.Type == "cgroup2"
	}
	lacks := func(controller string) bool { return !slices.Contains(m.Options, controller) }
	return m.Type == "cgroup" && !slices.ContainsFunc(strings.Split(hierarchy, ","), lacks)
}

// relative gives the cgroup path as seen from root, which is it or above it. What lies outside this process's cgroup
// namespace is only found below a root that lies there too.
func relative(path, root string) (string, bool) {
	if !strings.HasPrefix(path, "/") || !mountinfo.Within(path, root) {
		return "", false
	}
	below := strings.TrimPrefix(path, strings.TrimSuffix(root, "/"))
	if slices.Contains(strings.Split(below, "/"), "..") {
		return "", false
	}
	return below, true
}

// Upwards returns the folders from the cgroup's own to the top.
func (f Folder) Upwards() []string {
	folders := []string{f.Path}
	for dir := f.Path; dir != f.Top; {
		dir = filepath.Dir(dir)
		folders = append(folders, dir)
	}
	return folders
}
