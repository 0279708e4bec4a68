package run

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"

	sysuser "github.com/moby/sys/user"
)

const (
	// idCount is the length of the container's uid and gid map.
	idCount = 65536
	// lastHostID is where the search for a range begins that is set aside for nobody: the last one of those that
	// systemd leaves to containers (systemd.io/UIDS-GIDS).
	lastHostID = 0x6fff_0000
)

// DefaultHostID returns the first host id of a container for which none was chosen: the start of the first range of at
// least 65536 ids that both subuid(5) and subgid(5) give to root or to "containers", or else the last range for
// containers that they give to nobody.
func DefaultHostID() (uint32, error) {
	uids, err := readSubordinates("/etc/subuid")
	if err != nil {
		return 0, err
	}
	gids, err := readSubordinates("/etc/subgid")
	if err != nil {
		return 0, err
	}
	return chooseHostID(uids, gids), nil
}

func chooseHostID(uids, gids []sysuser.SubID) uint32 {
	for _, r := range uids {
		first := r.SubID
		if first+idCount <= math.MaxUint32 && isOurs(r, first) && slices.ContainsFunc(gids, func(g sysuser.SubID) bool { return isOurs(g, first) }) {
			return uint32(first)
		}
	}
	taken := slices.Concat(uids, gids)
	first := int64(lastHostID)
	for slices.ContainsFunc(taken, func(r sysuser.SubID) bool { return overlaps(r, first) }) && first > idCount {
		first -= idCount
	}
	return uint32(first)
}

// isOurs reports whether a container's range may begin at first.
func isOurs(r sysuser.SubID, first int64) bool {
	ours := slices.Contains([]string{"root", "0", "containers"}, r.Name)
	return ours && r.SubID <= first && first+idCount <= r.SubID+r.Count
}

func overlaps(r sysuser.SubID, first int64) bool {
	return r.SubID < first+idCount && first < r.SubID+r.Count
}

// readSubordinates reads a file of subuid(5); one that is not there gives nothing to anybody.
func readSubordinates(path string) ([]sysuser.SubID, error) {
	ranges, err := sysuser.ParseSubIDFileFilter(path, isRange)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("find the container's ids in %s: %w", path, err)
	}
	return ranges, nil
}

// isRange reports whether the line has numbers, of 32 bits: those that cannot be read are 0.
func isRange(r sysuser.SubID) bool {
	return r.SubID > 0 && r.SubID <= math.MaxUint32 && r.Count > 0 && r.Count <= math.MaxUint32
}

// checkHostID refuses a range that goes beyond 32 bits.
func checkHostID(first uint32) error {
	if uint64(first)+idCount > math.MaxUint32 {
		return fmt.Errorf("host id %d leaves no room for the %d ids of a container: choose a smaller one", first, idCount)
	}
	return nil
}

// mapCovers reports whether one extent of a user namespace's map holds the whole range.
func mapCovers(extents []sysuser.IDMap, first, count int64) bool {
	return slices.ContainsFunc(extents, func(e sysuser.IDMap) bool { return first >= e.ID && first+count <= e.ID+e.Count })
}
