package mknod

import (
	"fmt"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

var _ sdk.Validator = handler{}

// Validate implements sdk.Validator.
func (handler) Validate(s sdk.Settings) []sdk.Finding {
	var c config
	if err := s.Decode(&c); err != nil {
		return []sdk.Finding{{Text: err.Error()}}
	}
	var findings []sdk.Finding
	for _, text := range c.Devices {
		if d, err := parseDevices(text); err != nil {
			findings = append(findings, sdk.Finding{Key: "devices", Text: err.Error()})
		} else if danger := d.danger(); danger != "" {
			findings = append(findings, sdk.Finding{
				Key: "devices", Text: fmt.Sprintf("%q: %s", text, danger), Warning: true,
			})
		}
	}
	return findings
}

// Devices that give the host away (Documentation/admin-guide/devices.txt).
const (
	memMajor  = 1
	memMinor  = 1
	kmemMinor = 2
	portMinor = 4
	kmsgMinor = 11
	noDriver  = 0 // the major number of nodes that cannot be opened
)

// danger says what containers gain by such nodes, where it is more than a device of their own; empty: they do not.
func (d devices) danger() string {
	const unless = "; the container's device rules (cgroups(7)) decide whether it can open them"
	has := func(minor uint32) bool { return d.major == memMajor && d.first <= minor && minor <= d.last }
	switch {
	case d.kind == unix.S_IFBLK && d.major != noDriver:
		return "whoever opens a disk of the host reads and writes all files on it: list disks that are the container's alone" + unless
	case d.kind == unix.S_IFCHR && (has(memMinor) || has(kmemMinor) || has(portMinor)):
		return "whoever opens /dev/mem, /dev/kmem or /dev/port owns the host: take it out" + unless
	case d.kind == unix.S_IFCHR && has(kmsgMinor):
		return "whoever opens /dev/kmsg reads and writes the host's kernel log: take it out" + unless
	}
	return ""
}
