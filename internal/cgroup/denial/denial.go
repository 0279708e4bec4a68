// Package denial finds out whether a cgroup keeps its tasks from device nodes that no rule names, for good.
package denial

import (
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/intercede/intercede/internal/cgroup"
	"golang.org/x/sys/unix"
)

// Denies reports whether a task of the cgroup, a path of version 2 as cgroup.Read has it, can open no device node but
// those whose major number, minor number or both a rule names: by the code of a program of the cgroup or of one above
// it (BPF_CGROUP_DEVICE) that root has loaded. It is false where that cannot be proven, and for the empty path. The
// error says why nothing could be read.
//
// The list of a devices controller of version 1 does not count, since it does not hold: a task can go to the cgroup of
// another container whose root has the same user ID, and opens there what that list allows (__cgroup1_procs_write,
// kernel/cgroup/cgroup-v1.c). A cgroup of version 2 it cannot leave.
func Denies(path string) (bool, error) {
	folders, err := cgroup.Folders(map[string]string{"": path})
	if err != nil {
		return false, err
	}
	folder, ok := folders[""]
	if !ok {
		return false, nil
	}
	return denyProgrammed(folder.Path)
}

// denyProgrammed is for the cgroup's folder.
func denyProgrammed(folder string) (bool, error) {
	dir, err := os.OpenFile(folder, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	// All of them are asked, those of the cgroups above too, and one that denies is enough
	// (__cgroup_bpf_run_filter_dev, kernel/bpf/cgroup.c).
	attached, err := link.QueryPrograms(link.QueryOptions{
		Target: int(dir.Fd()), Attach: ebpf.AttachCGroupDevice, QueryFlags: unix.BPF_F_QUERY_EFFECTIVE,
	})
	if err != nil {
		return false, fmt.Errorf("device programs of cgroup %s: %w", folder, err)
	}
	for _, p := range attached.Programs {
		denies, err := programDenies(p.ID)
		if denies || err != nil {
			return denies, err
		}
	}
	return false, nil
}

func programDenies(id ebpf.ProgramID) (bool, error) {
	program, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return false, fmt.Errorf("device program %d: %w", id, err)
	}
	defer program.Close()
	info, err := program.Info()
	if err != nil {
		return false, fmt.Errorf("device program %d: %w", id, err)
	}
	// One that a container has attached by interception was loaded by a plugin, whose user ID is another.
	if uid, ok := info.CreatedByUID(); !ok || uid != 0 {
		return false, nil
	}
	instructions, err := info.Instructions()
	if err != nil {
		return false, fmt.Errorf("instructions of device program %d: %w", id, err)
	}
	return codeDenies(instructions), nil
}
