package xfstests

import (
	"regexp"
	"strings"

	"github.com/intercede/intercede/tests/compare"
	"github.com/intercede/intercede/tests/stage"
)

// everything is as much as an operator may allow.
var everything = stage.Enable(map[string]string{
	"mknod":   `devices = ["b 0:*", "b 1:1", "b 2:4", "b 7:*", "c 0:*", "c 1:*", "c 2:3", "c 5:0-2"]`,
	"sysinfo": "",
	"setxattr": `
attributes = ["trusted.*"]
max_size = 65536
read = true`,
	"mount": `
allowed = ["ext4"]
shift = true
nodev = false`,
})

// suite gives the tests of a folder with xfstests. An overlay that a container mounts has user.overlay.* instead of
// trusted.overlay.* by the option userxattr, which real root's has here too.
func suite(folder string) compare.Suite {
	return compare.Suite{
		Config:   everything,
		Programs: folder,
		Disks:    []string{"TEST_DEV", "SCRATCH_DEV"},
		DiskSize: "1G",
		Environment: []string{"PROGRAMS=" + compare.ProgramsPoint, "RESULT_BASE=" + compare.WorkPoint + "/results", "FSTYP=ext4",
			"TEST_DIR=/mnt/test", "SCRATCH_MNT=/mnt/scratch", "DIFF_LENGTH=0", "MOUNT_OPTIONS=-o acl,user_xattr",
			"TEST_FS_MOUNT_OPTS=-o acl,user_xattr", "OVERLAY_MOUNT_OPTIONS=-o userxattr"},
		Prepare: func(s *stage.Test, work string) {
			s.Helper()
			s.Command("cp", "testdata/run-test", work)
		},
		Command: func(test string) []string {
			return []string{"timeout", "--kill-after=5", "300", compare.WorkPoint + "/run-test", test}
		},
		Read:       readResult,
		Difference: regexp.MustCompile("(?m)^\\| `((?:generic|overlay)/[0-9]+)` \\|"),
	}
}

// What xfstests prints of a test at its end, of one that it did not run, and of one that passed.
var (
	ran    = regexp.MustCompile(`(?m)^Ran: `)
	notRun = regexp.MustCompile(`\[not run\] (.*)`)
	passed = regexp.MustCompile(`(?m)^Passed all 1 tests$`)
)

func readResult(_ int, printed string) compare.Result {
	r := compare.Result{Ran: ran.MatchString(printed), Outcome: compare.Failed, Text: compare.Failed, Printed: printed}
	switch why := notRun.FindStringSubmatch(printed); {
	case why != nil:
		r.Outcome, r.Text = compare.Skipped, compare.Skipped+" ("+strings.TrimSpace(why[1])+")"
	case passed.MatchString(printed):
		r.Outcome, r.Text = compare.Passed, compare.Passed
	}
	return r
}
