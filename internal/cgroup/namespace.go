package cgroup

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Roots finds the root of a cgroup namespace (cgroup_namespaces(7)) in each hierarchy, as Read names cgroups, if it
// is one of these cgroups or above it: those of a process in the namespace. The others are left out, and those that
// are the root of this process's own namespace too.
//
// The kernel does not tell the root's path. It tells how this thread's own cgroup is seen from there, and so how far
// down the root is.
func Roots(namespace *os.File, cgroups map[string]string) (map[string]string, error) {
	own, seen, err := seenFrom(namespace)
	if err != nil {
		return nil, fmt.Errorf("roots of a cgroup namespace: %w", err)
	}
	roots := map[string]string{}
	for hierarchy, path := range cgroups {
		if root, ok := rootOf(own[hierarchy], seen[hierarchy], path); ok {
			roots[hierarchy] = root
		}
	}
	return roots, nil
}

// seenFrom reads this thread's cgroups, and the same as they are seen from the namespace.
func seenFrom(namespace *os.File) (own, seen map[string]string, err error) {
	const self = "/proc/thread-self/cgroup"
	before, err := os.Open("/proc/thread-self/ns/cgroup")
	if err != nil {
		return nil, nil, err
	}
	defer before.Close()
	runtime.LockOSThread()
	if own, err = Read(self); err == nil {
		err = os.NewSyscallError("setns", unix.Setns(int(namespace.Fd()), unix.CLONE_NEWCGROUP))
	}
	if err != nil {
		runtime.UnlockOSThread()
		return nil, nil, err
	}
	seen, err = Read(self)
	if back := unix.Setns(int(before.Fd()), unix.CLONE_NEWCGROUP); back != nil {
		return nil, nil, os.NewSyscallError("setns", back) // the thread ends with its goroutine, if it is not unlocked
	}
	runtime.UnlockOSThread()
	return own, seen, err
}

// rootOf finds a namespace's root, from which the cgroup own is seen so, and which is path or above it.
func rootOf(own, seen, path string) (root string, ok bool) {
	ours, theirs, way := components(own), components(path), components(seen)
	up := 0
	for up < len(way) && way[up] == ".." {
		up++
	}
	down := way[up:]
	common := len(ours) - len(down) // how far down the lowest cgroup is that is above both, or one of them
	if common < 0 || !slices.Equal(ours[common:], down) {
		return "", false
	}
	depth := common + up
	if depth == 0 || depth > len(theirs) || slices.Contains(theirs, "..") || !slices.Equal(theirs[:common], ours[:common]) {
		return "", false
	}
	return "/" + strings.Join(theirs[:depth], "/"), true
}

func components(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}
