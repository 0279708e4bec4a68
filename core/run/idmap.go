package run

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"

	sysuser "github.com/moby/sys/user"
)

// mapLinesMax is UID_GID_MAP_MAX_EXTENTS of include/linux/user_namespace.h.
const mapLinesMax = 340

// idMap is a uid or gid map of the container (user_namespaces(7)).
type idMap []syscall.SysProcIDMap

// parseIDMap reads CONTAINER:HOST[:SIZE], as podman's --uidmap has it.
func parseIDMap(texts []string) (idMap, error) {
	var m idMap
	for _, text := range texts {
		r, err := parseIDRange(text)
		if err != nil {
			return nil, fmt.Errorf("map of ids %q: %w", text, err)
		}
		for i, other := range m {
			if err := disjoint(other, r); err != nil {
				return nil, fmt.Errorf("maps of ids %q and %q: %w", texts[i], text, err)
			}
		}
		m = append(m, r)
	}
	if size := m.textSize(); len(m) > mapLinesMax || size >= os.Getpagesize() {
		return nil, fmt.Errorf("%d maps of ids, of %d bytes: the kernel takes %d, of less than %d bytes: join ranges, or give fewer", len(m), size,
			mapLinesMax, os.Getpagesize())
	}
	if len(m) > 0 && m.outside(0) < 0 {
		return nil, errors.New("map of ids: id 0 of the container is not mapped, which starts as root")
	}
	return m, nil
}

func parseIDRange(text string) (r syscall.SysProcIDMap, err error) {
	parts := strings.Split(text, ":")
	if len(parts) == 2 {
		parts = append(parts, "1")
	}
	const fields = 3
	numbers := [fields]int{}
	for i := range numbers {
		if len(parts) != fields {
			break
		}
		var n uint64
		if n, err = strconv.ParseUint(parts[i], 10, 32); err != nil {
			break
		}
		numbers[i] = int(n)
	}
	r = syscall.SysProcIDMap{ContainerID: numbers[0], HostID: numbers[1], Size: numbers[2]}
	if err != nil || r.Size == 0 {
		return r, errors.New("want CONTAINER:HOST[:SIZE], such as \"0:100000:200000\"")
	}
	if r.HostID == 0 {
		return r, errors.New("root of the host is in it, and is not to be in a container")
	}
	if max(r.HostID, r.ContainerID)+r.Size > math.MaxUint32 {
		return r, errors.New("it goes beyond the ids that there are")
	}
	return r, nil
}

// disjoint refuses two ranges with an ID in common, which the kernel does not take.
func disjoint(a, b syscall.SysProcIDMap) error {
	if a.ContainerID < b.ContainerID+b.Size && b.ContainerID < a.ContainerID+a.Size {
		return fmt.Errorf("they overlap: both have id %d of the container", max(a.ContainerID, b.ContainerID))
	}
	if a.HostID < b.HostID+b.Size && b.HostID < a.HostID+a.Size {
		return fmt.Errorf("they overlap: both have id %d of the host", max(a.HostID, b.HostID))
	}
	return nil
}

// textSize is the length of the map as package syscall writes it to /proc/PID/uid_map, which takes less than a page
// (user_namespaces(7)).
func (m idMap) textSize() (size int) {
	for _, r := range m {
		size += len(fmt.Sprintf("%d %d %d\n", r.ContainerID, r.HostID, r.Size))
	}
	return size
}

// outside is an id of the container as the host has it; -1: it has none.
func (m idMap) outside(id uint32) int {
	for _, r := range m {
		if inside := int(id); r.ContainerID <= inside && inside < r.ContainerID+r.Size {
			return r.HostID + inside - r.ContainerID
		}
	}
	return -1
}

// String has the ids of the container: "0 to 99, 1000".
func (m idMap) String() string {
	var ranges []string
	for _, r := range m {
		text := strconv.Itoa(r.ContainerID)
		if r.Size > 1 {
			text += " to " + strconv.Itoa(r.ContainerID+r.Size-1)
		}
		ranges = append(ranges, text)
	}
	return strings.Join(ranges, ", ")
}

// maps are the container's: those that were given, one for the other if only one was, or else idCount ids from HostID
// on.
func (o *Options) maps() (uids, gids idMap, err error) {
	if uids, err = parseIDMap(o.UIDMap); err != nil {
		return nil, nil, err
	}
	if gids, err = parseIDMap(o.GIDMap); err != nil {
		return nil, nil, err
	}
	switch {
	case len(uids) == 0 && len(gids) == 0:
		uids = idMap{{ContainerID: 0, HostID: int(o.HostID), Size: idCount}}
		gids = uids
	case len(uids) == 0:
		uids = gids
	case len(gids) == 0:
		gids = uids
	}
	return uids, gids, nil
}

// checkMap refuses ids that this process cannot map: those outside its own user namespace.
func checkMap(m idMap, name string) error {
	extents, err := sysuser.ParseIDMapFile("/proc/self/" + name)
	if err != nil {
		return fmt.Errorf("check the container's ids: %w", err)
	}
	for _, r := range m {
		if !mapCovers(extents, int64(r.HostID), int64(r.Size)) {
			return fmt.Errorf("ids %d to %d are not in this process's own %s (user_namespaces(7)): choose a host id that is",
				r.HostID, r.HostID+r.Size-1, name)
		}
	}
	return nil
}
