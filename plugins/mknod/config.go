package mknod

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
	Devices       []string `json:"devices"`
	RequireCgroup bool     `json:"require_device_cgroup"`
	MaxCovers     int      `json:"max_covers"`
}

// defaultDevices are those that a container engine gives every container, and those without a driver.
var defaultDevices = []string{
	"b 0:0",
	"c 0:0", // overlayfs whiteout
	"c 5:1", // console
	"c 5:2", // ptmx
	"c 1:7", // full
	"c 1:3", // null
	"c 1:8", // random
	"c 5:0", // tty
	"c 1:9", // urandom
	"c 1:5", // zero
}

const requireCgroup = "require_device_cgroup"

var settings = []sdk.Setting{{
	Key:     "devices",
	Type:    sdk.StringList,
	Default: defaultDevices,
	Help:    "device nodes that may be made, as TYPE MAJOR:MINOR: TYPE is c or b, MAJOR a number, and MINOR a number, a range N-M or *",
	Pattern: `[cb] [0-9]{1,4}:([0-9]{1,7}(-[0-9]{1,7})?|\*)`,
	Example: "c 1:3",
}, {
	Key:     requireCgroup,
	Type:    sdk.Bool,
	Default: true,
	Help: "make nodes that reach the host when they are opened, as disks and c 5:1 do, only in containers whose device cgroup of " +
		"version 2 was found to deny what no rule names; false: in all containers",
}, {
	Key:     "max_covers",
	Type:    sdk.Int,
	Default: 1024,
	Help:    "the most nodes of a container that are mounted over others at once: each takes about 7 KB of the kernel's memory",
	Min:     new(int64(0)),
	Max:     new(int64(maxCovers)),
}}

// dev_t has 12 bits for the major and 20 for the minor number (MINORBITS, include/linux/kdev_t.h).
const (
	majorBits = 12
	minorBits = 20
)

// parseDevices reads "c 1:3", "b 7:0-63" or "b 7:*".
func parseDevices(text string) (devices, error) {
	letter, number, _ := strings.Cut(text, " ")
	major, minors, _ := strings.Cut(number, ":")
	majorNumber, majorErr := strconv.ParseUint(major, 10, majorBits)
	first, last, minorErr := parseMinors(minors)
	d := devices{types[letter], uint32(majorNumber), first, last}
	if d.kind == 0 || majorErr != nil || minorErr != nil {
		return devices{}, fmt.Errorf("device %q: want TYPE MAJOR:MINOR, for example \"c 1:3\"; TYPE is c or b, MAJOR below %d, and MINOR below %d, "+
			"a range such as 0-63, or *", text, 1<<majorBits, 1<<minorBits)
	}
	if first > last {
		return devices{}, fmt.Errorf("device %q: %d, the first of the range, is above its last: want %d-%d", text, first, last, first)
	}
	return d, nil
}

func parseMinors(text string) (first, last uint32, err error) {
	if text == "*" {
		return 0, 1<<minorBits - 1, nil
	}
	low, high, isRange := strings.Cut(text, "-")
	if !isRange {
		high = low
	}
	from, fromErr := strconv.ParseUint(low, 10, minorBits)
	to, toErr := strconv.ParseUint(high, 10, minorBits)
	return uint32(from), uint32(to), errors.Join(fromErr, toErr)
}

// types are the file types, by their letter.
var types = map[string]uint32{"c": unix.S_IFCHR, "b": unix.S_IFBLK}

// policy is that of a container whose device cgroup denies what no rule names, or not.
func (c config) policy(denied bool) (policy, error) {
	p := policy{everywhere: denied || !c.RequireCgroup}
	for _, text := range c.Devices {
		d, err := parseDevices(text)
		if err != nil {
			return policy{}, err
		}
		p.listed = append(p.listed, d)
	}
	return p, nil
}
