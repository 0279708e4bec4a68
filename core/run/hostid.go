package run

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
)

const (
	// idCount is the length of the container's uid and gid map.
	idCount = 65536
	// lastHostID is where the search for a range begins that is set aside for nobody: the last one of those that
	// systemd leaves to containers (systemd.io/UIDS-GIDS).
	lastHostID = 0x6fff_0000
)

// idRange is a line of subuid(5) or subgid(5).
type idRange struct {
	owner        string
	first, count uint64
}

// DefaultHostID returns the first host id of a container for which none was chosen: the start of the first range of at
// least 65536 ids that both subuid(5) and subgid(5) give to root or to "containers", or else the last range for containers
// that they give to nobody.
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

func chooseHostID(uids, gids []idRange) uint32 {
	for _, r := range uids {
		first := r.first
		if first > 0 && first+idCount <= math.MaxUint32 && r.isOurs(first) && slices.ContainsFunc(gids, func(g idRange) bool { return g.isOurs(first) }) {
			return uint32(first)
		}
	}
	taken := slices.Concat(uids, gids)
	first := uint64(lastHostID)
	for slices.ContainsFunc(taken, func(r idRange) bool { return r.overlaps(first) }) && first > idCount {
		first -= idCount
	}
	return uint32(first)
}

// isOurs says whether a container's range may begin at first.
func (r idRange) isOurs(first uint64) bool {
	ours := slices.Contains([]string{"root", "0", "containers"}, r.owner)
	return ours && r.first <= first && first-r.first <= r.count && r.count-(first-r.first) >= idCount
}

func (r idRange) overlaps(first uint64) bool {
	return r.first < first+idCount && (r.first > first || first-r.first < r.count)
}

// readSubordinates reads a file of subuid(5); one that is not there gives nothing to anybody.
func readSubordinates(path string) ([]idRange, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find the container's ids: %w", err)
	}
	defer file.Close()
	ranges, err := parseSubordinates(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return ranges, nil
}

// parseSubordinates leaves out lines that are none.
func parseSubordinates(file io.Reader) ([]idRange, error) {
	var ranges []idRange
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(fields) != 3 {
			continue
		}
		first, errFirst := strconv.ParseUint(fields[1], 10, 32)
		count, errCount := strconv.ParseUint(fields[2], 10, 32)
		if errFirst == nil && errCount == nil {
			ranges = append(ranges, idRange{fields[0], first, count})
		}
	}
	return ranges, lines.Err()
}

// checkHostID refuses a range that this process cannot map: beyond 32 bits, or outside its own user namespace.
func checkHostID(first uint32) error {
	if uint64(first)+idCount > math.MaxUint32 {
		return fmt.Errorf("host id %d leaves no room for the %d ids of a container: choose a smaller one", first, idCount)
	}
	for _, name := range []string{"uid_map", "gid_map"} {
		file, err := os.Open("/proc/self/" + name)
		if err != nil {
			return fmt.Errorf("check the container's ids: %w", err)
		}
		covered := mapCovers(file, uint64(first))
		file.Close()
		if !covered {
			return fmt.Errorf("ids %d to %d are not in this process's own %s (user_namespaces(7)): choose a host id that is", first, first+idCount-1, name)
		}
	}
	return nil
}

// mapCovers reports whether one extent of a /proc/PID/uid_map file holds the container's whole range.
func mapCovers(file io.Reader, first uint64) bool {
	for {
		var inside, outside, count uint64
		if _, err := fmt.Fscan(file, &inside, &outside, &count); err != nil {
			return false
		}
		if first >= inside && first+idCount <= inside+count {
			return true
		}
	}
}
