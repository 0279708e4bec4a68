package bpf

import (
	"encoding/binary"
	"path/filepath"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

func TestMain(m *testing.M) { sdktest.Main(m, handler{}) }

func TestScripts(t *testing.T) {
	sdktest.RunScripts(t, handler{}, "testdata", sdktest.Scripts{Alike: withoutAddresses, On: map[string]sdktest.Environment{
		"tree":          onTree,
		"left-attached": onTreeLeft,
		"mounts":        onMounts,
		"shared":        onShared,
		"no-cgroup":     onNoCgroup,
	}})
}

// newContainer makes a container of a script.
type newContainer = func(...sdktest.Option) *sdktest.Container

// onTree has the caller in the cgroup of an emptyTree.
func onTree(t testing.TB, new newContainer) *sdktest.Container {
	t.Helper()
	return emptyTree(t).containerBy(t, new)
}

// onTreeLeft is for a case that cannot detach its program.
func onTreeLeft(t testing.TB, new newContainer) *sdktest.Container {
	t.Helper()
	return newTree(t).containerBy(t, new)
}

// onMounts has more mounts of the tree.
func onMounts(t testing.TB, new newContainer) *sdktest.Container {
	t.Helper()
	tr := emptyTree(t)
	var mounts []sdktest.Option
	for target, name := range map[string]string{"/tree": ".", "/own": "own", "/part": "own/sub", "/sibling": "sibling"} {
		mounts = append(mounts, sdktest.WithMount(cloneMount(t, filepath.Join(tr.top, name)), target))
	}
	return tr.containerBy(t, new, mounts...)
}

// onShared has a process of the host in the caller's cgroup.
func onShared(t testing.TB, new newContainer) *sdktest.Container {
	t.Helper()
	tr := emptyTree(t)
	tr.startHostProcess(t)
	return tr.containerBy(t, new)
}

// onNoCgroup has the caller in the cgroup of the test, and the tree beside it.
func onNoCgroup(t testing.TB, new newContainer) *sdktest.Container {
	t.Helper()
	return new(emptyTree(t).mounts(t)...)
}

// emptyTree is a tree that has no programs at the end of the test: what a case attached it has detached, and what was
// refused is not attached.
func emptyTree(t testing.TB) tree {
	t.Helper()
	tr := newTree(t)
	t.Cleanup(func() { tr.checkCount(t, none) })
	return tr
}

// withoutAddresses clears what looks like an address in the call's attr: it is another in each process.
func withoutAddresses(l *sdktest.Line) {
	if len(l.Bufs) == 0 {
		return
	}
	for a := l.Bufs[0]; len(a) >= 8; a = a[8:] {
		if word := binary.NativeEndian.Uint64(a); word >= 1<<16 && word < 1<<48 {
			clear(a[:8])
		}
	}
}
