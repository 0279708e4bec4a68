package ltp

import "strings"

// calls are those whose tests are run: of the plugins, and of what goes with them. No test of bpf(2) loads a device
// program.
var calls = strings.Fields(`
	mknod mknodat
	mount mount_setattr umount umount2 fsopen fsconfig fsmount fspick move_mount open_tree
	setxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr
	sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
	sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
	getpriority setpriority nice ioprio_get ioprio_set
	sysinfo
`)
