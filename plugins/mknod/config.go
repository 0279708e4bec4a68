package main

import (
	"fmt"
	"strings"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// config are the plugin's settings.
type config struct {
	Devices []string `json:"devices"`
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
}}

// parseDevice reads "c 1:3".
func parseDevice(text string) (device, error) {
	var kind string
	var d device
	if _, err := fmt.Sscanf(text, "%s %d:%d", &kind, &d.major, &d.minor); err != nil {
		return device{}, fmt.Errorf("device %q: want TYPE MAJOR:MINOR, for example \"c 1:3\"", text)
	}
	switch {
	case kind == "c":
		d.kind = unix.S_IFCHR
	case kind == "b":
		d.kind = unix.S_IFBLK
	default:
		return device{}, fmt.Errorf("device %q: the type is c or b", text)
	}
	// dev_t has 12 bits for the major and 20 for the minor number (MINORBITS, include/linux/kdev_t.h).
	if d.major >= 1<<12 || d.minor >= 1<<20 {
		return device{}, fmt.Errorf("device %q: major numbers are below %d, minor numbers below %d", text, 1<<12, 1<<20)
	}
	return d, nil
}

func (c config) policy() (policy, error) {
	p := policy{}
	for _, text := range c.Devices {
		d, err := parseDevice(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		p[d] = true
	}
	return p, nil
}
