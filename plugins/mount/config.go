package mount

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
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
}

// servedByExt4 are filesystems that the driver of ext4 mounts as well. It maps ids for its own type alone (FS_ALLOW_IDMAP,
// fs/ext4/super.c), which takes more features: so that has to be allowed too.
var servedByExt4 = set("ext2 ext3")

const typePattern = `[A-Za-z0-9_][A-Za-z0-9_.-]*`

var settings = []sdk.Setting{{
	Key:     "allowed",
	Type:    sdk.StringList,
	Default: []string{},
	Help:    "filesystems of block devices that may be mounted",
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
	Help: "device nodes on mounts cannot be opened; false: as the container's device cgroup lets them, if that was found to deny " +
		"what no rule names",
}, {
	Key:     "devices",
	Type:    sdk.StringList,
	Default: []string{"*"},
	Help:    "block devices that may be mounted, as MAJOR:MINOR or MAJOR:*; * is every one that the caller can open",
	Pattern: `\*|[0-9]{1,4}:([0-9]{1,7}|\*)`,
	Example: "7:0",
}, {
	Key:     "options",
	Type:    sdk.StringMap,
	Default: map[string]string{},
	Help:    "mount options that may be given beyond the plugin's own tables, by filesystem, separated by commas",
	Pattern: `[^,=\s]+(,[^,=\s]+)*`,
	Example: "uid,gid,umask",
}, {
	Key:     "fuse",
	Type:    sdk.StringMap,
	Default: map[string]string{},
	Help:    "programs of the container that mount a filesystem in user space, by filesystem",
	Pattern: `/?[A-Za-z0-9_.+-]+(/[A-Za-z0-9_.+-]+)*`,
	Example: "fuse2fs",
}}

// policy is what a container may mount.
type policy struct {
	allowed map[string]*filesystem
	fuse    map[string]string // the handler of each filesystem
	devices []deviceRange
	shift   bool
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

// policy checks the settings. The error names every fault.
func (c config) policy(known map[string]filesystem, withoutDevice map[string]bool) (*policy, error) {
	p := &policy{allowed: map[string]*filesystem{}, fuse: c.Fuse, shift: c.Shift}
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	for _, name := range c.Allowed {
		if withoutDevice[name] {
			fault("allowed: %q is not a filesystem of a block device: this plugin mounts no other", name)
		}
		f, ok := known[name]
		if !ok {
			f = filesystem{name: name, driver: name, harmless: map[string]bool{}}
		}
		if c.Shift && servedByExt4[name] {
			if !slices.Contains(c.Allowed, "ext4") {
				fault("allowed: the kernel cannot map the ids of %q, which shift asks for, but by the driver of ext4: list \"ext4\" too, "+
					"or leave %q out", name, name)
			}
			f.driver = "ext4"
		}
		p.allowed[name] = &f
	}
	for name, keys := range c.Options {
		f := p.allowed[name]
		if f == nil {
			fault("options: %q is not in allowed", name)
			continue
		}
		for _, key := range strings.Split(keys, ",") {
			if f.refused[key] {
				fault("options: option %q of %s reaches beyond the filesystem, or harms the host: it cannot be allowed", key, name)
			}
			f.harmless[key] = true
		}
	}
	whole := regexp.MustCompile(`^(?:` + typePattern + `)$`)
	for name := range c.Fuse {
		switch {
		case !whole.MatchString(name):
			fault("fuse: %q is no name of a filesystem", name)
		case p.allowed[name] != nil:
			fault("fuse: %q is in allowed too: which of the two is to mount it?", name)
		}
	}
	for _, text := range c.Devices {
		r, err := parseDevice(text)
		if err != nil {
			fault("devices: %w", err)
		}
		p.devices = append(p.devices, r)
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

// parseFilesystems gives those of /proc/filesystems that need no block device (proc_filesystems(5)).
func parseFilesystems(text string) map[string]bool {
	names := map[string]bool{}
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "nodev\t"); ok {
			names[name] = true
		}
	}
	return names
}
