package run

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"syscall"

	sysuser "github.com/moby/sys/user"
)

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
		m = append(m, r)
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

// outside is an id of the container as the host has it; -1: it has none.
func (m idMap) outside(id uint32) int {
	for _, r := range m {
		if inside := int(id); r.ContainerID <= inside && inside < r.ContainerID+r.Size {
			return r.HostID + inside - r.ContainerID
		}
	}
	return -1
}

// last is the greatest id of the container.
func (m idMap) last() uint32 {
	last := 0
	for _, r := range m {
		last = max(last, r.ContainerID+r.Size-1)
	}
	return uint32(last)
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
