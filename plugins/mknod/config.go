package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// config are the plugin's settings.
type config struct {
	Devices   []string `json:"devices"`
	MaxCovers int      `json:"max_covers"`
}

// defaultDevices are those that a container engine gives every container, and the overlayfs whiteout.
var defaultDevices = []string{
	"c 0:0", // overlayfs whiteout
	"c 5:1", // console
	"c 1:7", // full
	"c 1:3", // null
	"c 1:8", // random
	"c 5:0", // tty
	"c 1:9", // urandom
	"c 1:5", // zero
}

var settings = []sdk.Setting{{
	Key:     "devices",
	Type:    sdk.StringList,
	Default: defaultDevices,
	Help:    "device nodes that may be made, as TYPE MAJOR:MINOR; TYPE is c or b",
	Pattern: `[cb] [0-9]{1,4}:[0-9]{1,7}`,
	Example: "c 1:3",
}, {
	Key:     "max_covers",
	Type:    sdk.Int,
	Default: 1024,
	Help:    "the most nodes of a container that are mounted over others at once: each takes about 7 KB of the kernel's memory",
	Min:     new(int64(0)),
	Max:     new(int64(maxCovers)),
}}

// parseDevice reads "c 1:3".
func parseDevice(text string) (device, error) {
	letter, number, _ := strings.Cut(text, " ")
	major, minor, _ := strings.Cut(number, ":")
	// dev_t has 12 bits for the major and 20 for the minor number (MINORBITS, include/linux/kdev_t.h).
	majorNumber, majorErr := strconv.ParseUint(major, 10, 12)
	minorNumber, minorErr := strconv.ParseUint(minor, 10, 20)
	d := device{types[letter], uint32(majorNumber), uint32(minorNumber)}
	if d.kind == 0 || majorErr != nil || minorErr != nil {
		return device{}, fmt.Errorf("device %q: want TYPE MAJOR:MINOR, for example \"c 1:3\"; TYPE is c or b, MAJOR below %d, MINOR below %d", text, 1<<12, 1<<20)
	}
	return d, nil
}

// types are the file types, by their letter.
var types = map[string]uint32{"c": unix.S_IFCHR, "b": unix.S_IFBLK}

func (c config) policy() (policy, error) {
	p := policy{}
	for _, text := range c.Devices {
		d, err := parseDevice(text)
		if err != nil {
			return nil, err
		}
		p[d] = true
	}
	return p, nil
}
