package main

import "github.com/intercede/intercede/sdk"

// config are the plugin's settings.
type config struct {
	Devices bool `json:"devices"`
}

var settings = []sdk.Setting{{
	Key:     "devices",
	Type:    sdk.Bool,
	Default: false,
	Help:    "whether containers may load device programs (BPF_PROG_TYPE_CGROUP_DEVICE) and attach them to their cgroups; without it the plugin does nothing",
}}
