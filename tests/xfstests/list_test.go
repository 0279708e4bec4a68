package xfstests

// tests are those of the groups acl, atime, attr, mount and whiteout, and those that make device nodes, of generic and
// overlay. Left out are those that
//   - need the device mapper, or a loop device that they set up themselves, which real root has none of here;
//   - write to /proc/sys, which is the host's, or run for many minutes;
//   - shut filesystems down, but for one: no plugin takes ioctl(2);
//   - need what ext4, or an overlay with userxattr, does not have, or Debian's programs and headers.
const tests = `
	generic/003 generic/020 generic/037 generic/050 generic/053 generic/062 generic/070 generic/077
	generic/093 generic/097 generic/099 generic/103 generic/105 generic/117 generic/120 generic/184 generic/192
	generic/237 generic/294 generic/306 generic/307 generic/318 generic/319 generic/337 generic/375 generic/377
	generic/389 generic/401 generic/403 generic/409 generic/410 generic/411 generic/423 generic/425 generic/434
	generic/444 generic/449 generic/454 generic/486 generic/491 generic/523 generic/529 generic/533 generic/585
	generic/589 generic/604 generic/607 generic/611 generic/618 generic/621 generic/631 generic/632 generic/633
	generic/634 generic/644 generic/645 generic/656 generic/696 generic/697 generic/698 generic/699 generic/728
	overlay/003 overlay/004 overlay/006 overlay/008 overlay/010 overlay/015 overlay/022 overlay/023 overlay/024
	overlay/025 overlay/026 overlay/031 overlay/035 overlay/036 overlay/037 overlay/039 overlay/063 overlay/065
	overlay/073 overlay/082 overlay/083 overlay/086
`
