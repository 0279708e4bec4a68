package ltp

import (
	"path/filepath"
	"regexp"

	"github.com/intercede/intercede/tests/compare"
	"github.com/intercede/intercede/tests/stage"
)

// everything is as much as an operator may allow.
var everything = stage.Enable(map[string]string{
	"mknod":   `devices = ["b 0:0", "b 1:3", "c 0:0", "c 1:3", "c 1:5", "c 1:7-9", "c 5:0-2", "b 7:3"]`,
	"sysinfo": "",
	"setxattr": `
attributes = ["trusted.*", "security.ltptest*"]
max_size = 65536
read = true`,
	"sched": `
policies = ["other", "batch", "idle", "fifo", "rr", "deadline"]
min_nice = -20
max_io_priority = "rt:0"`,
	"bpf": "devices = true",
	"mount": `
allowed = ["ext2", "ext3", "ext4", "xfs", "btrfs"]
shift = true
nodev = false`,
})

// suite gives the tests of the folder bin. With CAP_SYS_RESOURCE their library would warn that it cannot protect itself
// from being killed (oom_score_adj); LTP_TIMEOUT_MUL makes its limits longer, for a busy machine. fgetxattr02 opens the
// block device 7:3.
func suite(folder string) compare.Suite {
	return compare.Suite{
		Config:         everything,
		Programs:       filepath.Join(folder, "bin"),
		Disks:          []string{"LTP_DEV"},
		DiskSize:       "320M", // the library wants 300 MB
		DeviceRules:    []string{"b 7:3 r"},
		Environment:    []string{"KCONFIG_PATH=" + compare.WorkPoint + "/kconfig", "LTP_TIMEOUT_MUL=4"},
		WithoutPlugins: true,
		UsualPriority:  true,
		Prepare:        prepare,
		Command: func(test string) []string {
			return []string{"/bin/sh", "-c", "cd " + compare.ProgramsPoint + " && timeout --kill-after=5 60 ./" + test}
		},
		Read:       readResult,
		Difference: regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\|"),
	}
}

// prepare gives the tests mkfs.xfs, and the kernel's configuration without CONFIG_RT_GROUP_SCHED: with it, they make no
// real-time thread where they see cgroups of version 2, although the controller may be of version 1.
func prepare(s *stage.Test, work string) {
	s.Helper()
	s.Command("cp", "testdata/mkfs.xfs", work)
	s.Command("sh", "-c", `{ zcat /proc/config.gz 2>/dev/null || cat "/boot/config-$(uname -r)"; } | grep -v RT_GROUP_SCHED >"$0"`,
		filepath.Join(work, "kconfig"))
}
