package ociruntime

import (
	"path"
	"strings"
)

// cgroupOf is the cgroup that linux.cgroupsPath asks for: an absolute path, or systemd's "SLICE:PREFIX:NAME" as
// runc's and crun's drivers read it. It is empty for a path relative to a cgroup that is not known before the
// container is there.
func cgroupOf(cgroupsPath string) string {
	if path.IsAbs(cgroupsPath) {
		return path.Clean(cgroupsPath)
	}
	parts := strings.Split(cgroupsPath, ":")
	if len(parts) != 3 || parts[0] == "" || parts[2] == "" {
		return ""
	}
	slice, prefix, name := parts[0], parts[1], parts[2]
	if prefix != "" {
		name = prefix + "-" + name
	}
	return path.Join(slicePath(slice), name+".scope")
}

// slicePath is the folder of a slice: that of "a-b.slice" is /a.slice/a-b.slice (systemd.slice(5)).
func slicePath(slice string) string {
	name := strings.TrimSuffix(slice, ".slice")
	if name == "-" {
		return "/"
	}
	folder, parents := "/", strings.Split(name, "-")
	for i := range parents {
		folder = path.Join(folder, strings.Join(parents[:i+1], "-")+".slice")
	}
	return folder
}
