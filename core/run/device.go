package run

import (
	"fmt"
	"slices"

	"github.com/intercede/intercede/internal/cgroup/limit"
	"github.com/intercede/intercede/internal/device"
)

// usualDevices are those that every container may open, as docker and crun have it: null, zero, full, random, urandom,
// tty, console, ptmx, and terminals of devpts. Making nodes is not limited: user namespaces and plugins decide that.
var usualDevices = []device.Rule{
	{Major: device.Any, Minor: device.Any, Access: device.Make},
	{Major: device.Any, Minor: device.Any, Access: device.Make, Block: true},
	{Major: 1, Minor: 3, Access: device.Read | device.Write},
	{Major: 1, Minor: 5, Access: device.Read | device.Write},
	{Major: 1, Minor: 7, Access: device.Read | device.Write},
	{Major: 1, Minor: 8, Access: device.Read | device.Write},
	{Major: 1, Minor: 9, Access: device.Read | device.Write},
	{Major: 5, Minor: 0, Access: device.Read | device.Write},
	{Major: 5, Minor: 1, Access: device.Read | device.Write},
	{Major: 5, Minor: 2, Access: device.Read | device.Write},
	{Major: 136, Minor: device.Any, Access: device.Read | device.Write},
}

// limitDevices lets the cgroup's tasks open what the rules and usualDevices name. The root filesystem may have device
// nodes, of the host or of an image, which the container's root could open otherwise.
func limitDevices(g *limit.Group, rules []device.Rule) error {
	if err := g.AllowDevices(slices.Concat(usualDevices, rules)); err != nil {
		return fmt.Errorf("limit the devices of the container: %w", err)
	}
	return nil
}
