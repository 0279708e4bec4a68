package bpf

import "github.com/intercede/intercede/sdk"

// config are the plugin's settings.
type config struct {
	Devices         bool `json:"devices"`
	MaxInstructions int  `json:"max_instructions"`
	MaxPrograms     int  `json:"max_programs"`
}

// kernelInstructions is how many instructions the kernel takes (BPF_COMPLEXITY_LIMIT_INSNS, include/linux/bpf.h).
const kernelInstructions = 1_000_000

var settings = []sdk.Setting{{
	Key:     "devices",
	Type:    sdk.Bool,
	Default: false,
	Help:    "whether containers may load device programs (BPF_PROG_TYPE_CGROUP_DEVICE) and attach them to their cgroups; without it the plugin does nothing",
}, {
	// For some instructions the kernel's time is quadratic in their number, and nothing ends it.
	Key:     "max_instructions",
	Type:    sdk.Int,
	Default: 4096,
	Help:    "the most instructions of a program",
	Min:     new(int64(1)),
	Max:     new(int64(kernelInstructions)),
}, {
	// The compiled programs of the whole host have to fit into net.core.bpf_jit_limit.
	Key:     "max_programs",
	Type:    sdk.Int,
	Default: 512,
	Help:    "the most programs of a container that are there at once",
	Min:     new(int64(1)),
	Max:     new(int64(maxKept)),
}}
