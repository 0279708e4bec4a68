// Package kernels boots Debian's kernels in virtual machines with cgroup v2 alone, and runs the installed programs and
// the tests' binaries there: with systemd as the first process, or in a small machine, with a script as the first. The
// processor is emulated (qemu's TCG), which takes 6 to 30 times as long as on the machine itself: docs/kernels.md has
// what ran where.
//
// The variables of the environment that Make sets: KERNELS, the names of machines; KERNELS_TESTS, the packages whose
// tests run, or "all"; KERNELS_LIMIT, the seconds of a step by the clocks of the machine; KERNELS_DIR, a folder that
// keeps the machines' disks.
package kernels
