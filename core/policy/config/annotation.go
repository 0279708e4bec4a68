package config

import (
	"slices"

	"github.com/intercede/intercede/internal/wire"
)

// Annotation is one that can switch a plugin or give it a setting, in Incus's name and syntax:
// https://linuxcontainers.org/incus/docs/main/reference/instance_options/, "Security policies".
type Annotation struct {
	Name    string
	Plugin  string
	Setting string            // empty: the plugin's switch, a bool
	Type    wire.Setting_Type // of the setting
}

const (
	incusPrefix = "security.syscalls.intercept."

	isBool = wire.Setting_TYPE_BOOL
	isList = wire.Setting_TYPE_STRING_LIST
	isMap  = wire.Setting_TYPE_STRING_MAP
)

// Annotations are in the order in which they are applied.
var Annotations = []Annotation{
	{incusPrefix + "mknod", "mknod", "", isBool},
	{incusPrefix + "setxattr", "setxattr", "", isBool},
	{incusPrefix + "sched_setscheduler", "sched", "", isBool},
	{incusPrefix + "sysinfo", "sysinfo", "", isBool},
	{incusPrefix + "bpf", "bpf", "", isBool},
	{incusPrefix + "bpf.devices", "bpf", "devices", isBool},
	{incusPrefix + "mount", "mount", "", isBool},
	{incusPrefix + "mount.allowed", "mount", "allowed", isList},
	{incusPrefix + "mount.fuse", "mount", "fuse", isMap},
	{incusPrefix + "mount.shift", "mount", "shift", isBool},
}

// readAnnotations reads which of them a rule accepts.
func readAnnotations(t *table) (accepted []Annotation) {
	var known, listed []string
	for _, a := range Annotations {
		known = append(known, a.Name)
	}
	t.choice(acceptKey, &listed, known)
	for _, name := range listed {
		accepted = append(accepted, Annotations[slices.Index(known, name)])
	}
	return accepted
}
