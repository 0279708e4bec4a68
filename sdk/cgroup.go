package sdk

import "github.com/intercede/intercede/internal/cgroup"

// CgroupFolder is a cgroup in the filesystem, as the plugin's mount namespace shows it.
type CgroupFolder struct {
	Path string
	Top  string // the folder of the topmost cgroup that is seen there: Path or above it
}

// Upwards returns the folders from the cgroup's own to the top.
func (f CgroupFolder) Upwards() []string { return cgroup.Folder(f).Upwards() }

// CgroupFolders finds the folders of the container's cgroups, by the same names as Cgroups. A cgroup is left out that
// the plugin does not see: its hierarchy is not mounted, or it lies outside of what is mounted. Of several mounts the
// one counts that shows most of what is above the cgroup.
//
// It reads the plugin's whole mountinfo. A session does that once, when the container is attached.
func (c Container) CgroupFolders() (map[string]CgroupFolder, error) {
	found, err := cgroup.Folders(c.Cgroups)
	if err != nil {
		return nil, err
	}
	folders := map[string]CgroupFolder{}
	for hierarchy, folder := range found {
		folders[hierarchy] = CgroupFolder(folder)
	}
	return folders, nil
}

// CgroupHierarchy returns the name in Cgroups of the hierarchy that has the controller ("memory"): one of version 1, or
// else that of version 2, "".
func (c Container) CgroupHierarchy(controller string) string {
	return cgroup.Hierarchy(c.Cgroups, controller)
}

// ReadCgroups reads a file /proc/PID/cgroup into a map like Container.Cgroups.
func ReadCgroups(file string) (map[string]string, error) { return cgroup.Read(file) }
