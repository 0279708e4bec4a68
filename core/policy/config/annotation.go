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
	// Moves are lists and tables of the plugin from which the keys of this one, a table, are taken out.
	Moves []string
	// Keeps are tables of the plugin in which only the keys stay that are in this one, a list.
	Keeps []string
}

const (
	incusPrefix = "security.syscalls.intercept."

	isBool = wire.Setting_TYPE_BOOL
	isList = wire.Setting_TYPE_STRING_LIST
	isMap  = wire.Setting_TYPE_STRING_MAP
)

// Annotations are in the order in which they are applied.
var Annotations = []Annotation{
	{incusPrefix + "mknod", "mknod", "", isBool, nil, nil},
	{incusPrefix + "setxattr", "setxattr", "", isBool, nil, nil},
	{incusPrefix + "sched_setscheduler", "sched", "", isBool, nil, nil},
	{incusPrefix + "sysinfo", "sysinfo", "", isBool, nil, nil},
	{incusPrefix + "bpf", "bpf", "", isBool, nil, nil},
	{incusPrefix + "bpf.devices", "bpf", "devices", isBool, nil, nil},
	{incusPrefix + "mount", "mount", "", isBool, nil, nil},
	{incusPrefix + "mount.allowed", "mount", "allowed", isList, nil, []string{"options"}},
	// A filesystem is mounted by the kernel or by a handler: who asks for a handler means that.
	{incusPrefix + "mount.fuse", "mount", "fuse", isMap, []string{"allowed", "options"}, nil},
	{incusPrefix + "mount.shift", "mount", "shift", isBool, nil, nil},
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
