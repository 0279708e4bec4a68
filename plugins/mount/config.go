package mount

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// config are the plugin's settings.
type config struct {
	Allowed []string          `json:"allowed"`
	Shift   bool              `json:"shift"`
	Nodev   bool              `json:"nodev"`
	Devices []string          `json:"devices"`
	Options map[string]string `json:"options"`
	Fuse    map[string]string `json:"fuse"`
	Loop    []string          `json:"loop"`
}

// servedByExt4 are filesystems that the driver of ext4 mounts as well. It maps ids for its own type alone
// (FS_ALLOW_IDMAP, fs/ext4/super.c), which takes more features: so that has to be allowed too.
var servedByExt4 = set("ext2 ext3")

const typePattern = `[A-Za-z0-9_][A-Za-z0-9_.-]*`

var settings = []sdk.Setting{{
	Key:     "allowed",
	Type:    sdk.StringList,
	Default: []string{},
	Help:    "filesystems of block devices that may be mounted, by their names in /proc/filesystems",
	Pattern: `[A-Za-z0-9_-]+`,
	Example: "ext4",
}, {
	Key:     "shift",
	Type:    sdk.Bool,
	Default: false,
	Help:    "map the owners of files to the container's ids: root of the filesystem is root of the container",
}, {
	Key:     "nodev",
	Type:    sdk.Bool,
	Default: true,
	Help: "device nodes on mounts cannot be opened; false: as the container's device cgroup lets them, if one of version 2 was " +
		"found to deny what no rule names",
}, {
	Key:     "devices",
	Type:    sdk.StringList,
	Default: []string{"*"},
	Help:    "block devices that may be mounted, in numbers, as MAJOR:MINOR or MAJOR:*; * is every one that the caller can open",
	Pattern: `\*|[0-9]{1,4}:([0-9]{1,7}|\*)`,
	Example: "7:0",
}, {
	Key:     "options",
	Type:    sdk.StringMap,
	Default: map[string]string{},
	Help:    "mount options that may be given beyond the plugin's own tables, by filesystem: names without values, separated by commas",
	Pattern: `[^,=\s]+(,[^,=\s]+)*`,
	Example: "uid,gid,umask",
}, {
	Key:     "fuse",
	Type:    sdk.StringMap,
	Default: map[string]string{},
	Help:    "programs of the container that mount a filesystem in user space, by filesystem: a name or an absolute path, without arguments",
	Pattern: `/?[A-Za-z0-9_.+-]+(/[A-Za-z0-9_.+-]+)*`,
	Example: "fuse2fs",
}, {
	Key:     "loop",
	Type:    sdk.StringList,
	Default: []string{},
	Help:    "loop devices that are the container's alone, as a number or a range N-M; its device cgroup allows them, and it finds free ones itself",
	Pattern: `[0-9]{1,7}(-[0-9]{1,7})?`,
	Example: "512-515",
}}

// policy is what a container may mount.
type policy struct {
	allowed map[string]*filesystem
	fuse    map[string]string // the handler of each filesystem
	devices []deviceRange
	loops   []uint32 // numbers of loop devices
	shift   bool
	// withoutDriver are those of `allowed` that are not mounted: `fuse` has the filesystem whose driver would do it.
	withoutDriver []string
	// deviceNodes: mounts do not have nodev.
	deviceNodes bool
}

// deviceRange is a block device, or all of a major number.
type deviceRange struct {
	major, minor uint32
	anyMajor     bool
	anyMinor     bool
}

// allowsDevice reports whether the block device may be mounted.
func (p *policy) allowsDevice(dev uint64) bool {
	for _, r := range p.devices {
		if (r.anyMajor || r.major == unix.Major(dev)) && (r.anyMinor || r.minor == unix.Minor(dev)) {
			return true
		}
	}
	return false
}

// policy is what the settings allow. The error names every fault.
func (c config) policy(known map[string]filesystem, here filesystems) (*policy, error) {
	p, findings := c.validate(known, here)
	var faults []error
	for _, f := range findings {
		if !f.Warning {
			faults = append(faults, fmt.Errorf("%s: %s", f.Key, f.Text))
		}
	}
	return p, errors.Join(faults...)
}

// parseDevice reads "7:0", "7:*" or "*".
func parseDevice(text string) (deviceRange, error) {
	if text == "*" {
		return deviceRange{anyMajor: true, anyMinor: true}, nil
	}
	major, minor, _ := strings.Cut(text, ":")
	r := deviceRange{anyMinor: minor == "*"}
	// dev_t has 12 bits for the major and 20 for the minor number (MINORBITS, include/linux/kdev_t.h).
	n, err := strconv.ParseUint(major, 10, 12)
	r.major = uint32(n)
	if err == nil && !r.anyMinor {
		n, err = strconv.ParseUint(minor, 10, 20)
		r.minor = uint32(n)
	}
	if err != nil {
		return deviceRange{}, fmt.Errorf("device %q: want MAJOR:MINOR, MAJOR:* or *, for example \"7:0\"; MAJOR below %d, MINOR below %d", text, 1<<12, 1<<20)
	}
	return r, nil
}

// maxLoops is how many loop devices a container may have: all are looked at to find a free one.
const maxLoops = 64

// parseLoops reads "512" or "512-515".
func parseLoops(text string) ([]uint32, error) {
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	const minorBits = 20 // MINORBITS, include/linux/kdev_t.h
	first, err := strconv.ParseUint(from, 10, minorBits)
	last, err2 := strconv.ParseUint(to, 10, minorBits)
	if err == nil && err2 == nil && first > last {
		return nil, fmt.Errorf("%q: %d, the first of the range, is above its last: want %d-%d", text, first, last, first)
	}
	if err != nil || err2 != nil || last-first >= maxLoops {
		return nil, fmt.Errorf("%q: want a number below %d, or a range of at most %d, for example \"512-515\"", text, 1<<minorBits, maxLoops)
	}
	var numbers []uint32
	for n := first; n <= last; n++ {
		numbers = append(numbers, uint32(n))
	}
	return numbers, nil
}
