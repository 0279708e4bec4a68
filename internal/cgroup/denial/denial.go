// Package denial finds out whether cgroups keep their tasks from device nodes that no rule names.
package denial

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/intercede/intercede/internal/cgroup"
	"golang.org/x/sys/unix"
)

// Denies reports whether a task of the cgroups, named as cgroup.Read does, can open no device node but those whose
// major number, minor number or both a rule names: in version 1 by the list of the devices controller, in version 2
// by the code of a program of the cgroup or of one above it (BPF_CGROUP_DEVICE) that root has loaded. It is false where
// that cannot be proven. The error says why nothing could be read.
func Denies(cgroups map[string]string) (bool, error) {
	folders, err := cgroup.Folders(cgroups)
	if err != nil {
		return false, err
	}
	const controller = "devices"
	if name := cgroup.Hierarchy(cgroups, controller); name != "" {
		if folder, ok := folders[name]; ok {
			denies, err := denyListed(folder.Path)
			if denies || err != nil {
				return denies, err
			}
		}
	}
	folder, ok := folders[""]
	if !ok {
		return false, nil
	}
	return denyProgrammed(folder.Path)
}

// denyListed is for a cgroup of the devices controller.
func denyListed(folder string) (bool, error) {
	text, err := os.ReadFile(filepath.Join(folder, "devices.list"))
	if err != nil {
		return false, err
	}
	return listDenies(string(text)), nil
}

// listDenies reads a devices.list (Documentation/admin-guide/cgroup-v1/devices.rst): what may be done, a line each, as
// "c 1:3 rwm" or, for everything, "a *:* rwm".
func listDenies(text string) bool {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			return false
		}
		named := fields[1] != "*:*" && fields[0] != "a"
		if !named && strings.ContainsAny(fields[2], "rw") {
			return false
		}
	}
	return true
}

// denyProgrammed is for a cgroup of version 2.
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
