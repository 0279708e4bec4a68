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
	// fallbackHostID is the first id where nobody has set a range aside; it is what useradd(8) gives first.
	fallbackHostID = 100000
)

// DefaultHostID returns the first host id of a container for which none was chosen: the start of the first range of at
// least 65536 ids that subuid(5) gives to root or to "containers", or 100000.
func DefaultHostID() (uint32, error) {
	file, err := os.Open("/etc/subuid")
	if errors.Is(err, fs.ErrNotExist) {
		return fallbackHostID, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find the container's ids: %w", err)
	}
	defer file.Close()
	return subordinateID(file)
}

// subordinateID reads a subuid(5) file.
func subordinateID(file io.Reader) (uint32, error) {
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(fields) != 3 || !slices.Contains([]string{"root", "0", "containers"}, fields[0]) {
			continue
		}
		first, errFirst := strconv.ParseUint(fields[1], 10, 32)
		count, errCount := strconv.ParseUint(fields[2], 10, 32)
		if errFirst == nil && errCount == nil && first > 0 && count >= idCount {
			return uint32(first), nil
		}
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("read /etc/subuid: %w", err)
	}
	return fallbackHostID, nil
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
