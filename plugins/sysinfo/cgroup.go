package main

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// mount is a cgroup hierarchy, or a part of one, in the plugin's mount namespace.
type mount struct {
	v2      bool
	options []string // of the superblock: among them the controllers of a version 1 hierarchy
	root    string   // the cgroup that is mounted
	point   string
}

// parseMounts reads the cgroup hierarchies out of /proc/self/mountinfo (proc_pid_mountinfo(5)).
func parseMounts(mountinfo string) []mount {
	var mounts []mount
	for line := range strings.Lines(mountinfo) {
		where, what, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(where), strings.Fields(what)
		if !ok || len(left) < 6 || len(right) < 3 || right[0] != "cgroup" && right[0] != "cgroup2" {
			continue
		}
		mounts = append(mounts, mount{
			v2:      right[0] == "cgroup2",
			options: strings.Split(right[2], ","),
			root:    unescape(left[3]),
			point:   unescape(left[4]),
		})
	}
	return mounts
}

// unescape undoes mountinfo's escapes: a backslash and three octal digits.
func unescape(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		if s[0] == '\\' && len(s) >= 4 {
			if c, err := strconv.ParseUint(s[1:4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				s = s[4:]
				continue
			}
		}
		b.WriteByte(s[0])
		s = s[1:]
	}
	return b.String()
}

// has says whether the mount is of the hierarchy that /proc/PID/cgroup calls controllers: "memory", "cpu,cpuacct",
// "name=systemd", or "" for version 2.
func (m mount) has(controllers string) bool {
	if m.v2 || controllers == "" {
		return m.v2 && controllers == ""
	}
	for _, controller := range strings.Split(controllers, ",") {
		if !slices.Contains(m.options, controller) {
			return false
		}
	}
	return true
}

// cgroupDir is a cgroup's folder, and the topmost folder of its hierarchy that can be seen.
type cgroupDir struct {
	path, top string
}

// findDir finds the cgroup path, as /proc/PID/cgroup gives it, where most of what is above it can be seen.
func findDir(mounts []mount, controllers, path string) (cgroupDir, bool) {
	best, length := cgroupDir{}, -1
	for _, m := range mounts {
		below, ok := relative(path, m.root)
		if !ok || !m.has(controllers) || len(below) <= length {
			continue
		}
		best, length = cgroupDir{path: filepath.Join(m.point, below), top: filepath.Clean(m.point)}, len(below)
	}
	return best, length >= 0
}

// relative gives the cgroup path as seen from root, an ancestor or itself. Both are kernel's words relative to the
// plugin's cgroup namespace: what lies outside it begins with "/.." and is only found below a root that says the same.
func relative(path, root string) (string, bool) {
	if !within(path, root) {
		return "", false
	}
	below := strings.TrimPrefix(path, strings.TrimSuffix(root, "/"))
	if slices.Contains(strings.Split(below, "/"), "..") {
		return "", false
	}
	return below, true
}

// within says whether the cgroup path is root or below it.
func within(path, root string) bool {
	if !strings.HasPrefix(path, "/") {
		return false
	}
	return path == root || strings.HasPrefix(path, strings.TrimSuffix(root, "/")+"/")
}

// upwards gives the folders from the cgroup's own to the top.
func (d cgroupDir) upwards() []string {
	folders := []string{d.path}
	for dir := d.path; dir != d.top; {
		dir = filepath.Dir(dir)
		folders = append(folders, dir)
	}
	return folders
}

// parseCgroups reads /proc/PID/cgroup (cgroups(7)): lines of ID:CONTROLLERS:PATH.
func parseCgroups(text string) map[string]string {
	cgroups := map[string]string{}
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) == 3 {
			cgroups[fields[1]] = fields[2]
		}
	}
	return cgroups
}

// hierarchyOf gives the controllers of the hierarchy that has the controller, as a key of cgroups: of a version 1
// hierarchy if there is one, else of version 2.
func hierarchyOf(cgroups map[string]string, controller string) string {
	for controllers := range cgroups {
		if slices.Contains(strings.Split(controllers, ","), controller) {
			return controllers
		}
	}
	return ""
}
