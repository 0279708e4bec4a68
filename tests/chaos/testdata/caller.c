// caller LIMIT DISK makes calls that plugins answer, one after the other, and checks what each has done, until its
// input ends. LIMIT is the memory that the container may use, in bytes; DISK a block device with ext4. Whatever is wrong is a
// line: "wrong: ...". The last line has the calls and the longest in ms.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define OPAQUE "trusted.overlay.opaque"

static long calls, wrongs;
static double longest;
static const char *longest_what;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void wrong(const char *what, long result, int error)
{
	if (wrongs++ < 50)
		printf("wrong: %s: %ld, %s\n", what, result, strerror(error));
}

// expect makes a call, and checks that its errno is this one: 0 for success.
#define expect(want, call) \
	do { \
		double began = now(); \
		errno = 0; \
		long result = call; \
		int error = result < 0 ? errno : 0; \
		double took = now() - began; \
		calls++; \
		if (took > longest) { \
			longest = took; \
			longest_what = #call; \
		} \
		if (error != want) \
			wrong(#call, result, error); \
	} while (0)

// check is for what is made without a plugin.
#define check(true) \
	do { \
		if (!(true)) \
			wrong(#true, 0, errno); \
	} while (0)

// tick lets the clock go on by which the kernel stamps files: a call that is repeated could be taken for the one before
// it, within one tick of that clock. A machine that gets no processor for a while has longer ticks.
static void tick(void)
{
	struct timespec before, stamp;
	clock_gettime(CLOCK_REALTIME, &before); // no file has a later time (current_time, fs/inode.c)
	do {
		usleep(4000);
		clock_gettime(CLOCK_REALTIME_COARSE, &stamp);
	} while (stamp.tv_sec < before.tv_sec || (stamp.tv_sec == before.tv_sec && stamp.tv_nsec <= before.tv_nsec));
}

static int is_null(const char *name)
{
	struct stat st;
	return lstat(name, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

static int opens(const char *name)
{
	int fd = open(name, O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static int equals(const char *file, const char *value)
{
	char got[8];
	ssize_t n;
	expect(0, (n = getxattr(file, OPAQUE, got, sizeof got)));
	return n == (ssize_t)strlen(value) && memcmp(got, value, n) == 0;
}

static unsigned long limit;
static const char *disk;

static void memory(void)
{
	struct sysinfo info;
	expect(0, sysinfo(&info));
	check(info.totalram * info.mem_unit == limit);
}

static void schedule(void)
{
	struct sched_param some = {7}, none = {0};
	expect(0, sched_setscheduler(0, SCHED_FIFO, &some));
	check(sched_getscheduler(0) == SCHED_FIFO);
	expect(0, sched_setscheduler(0, SCHED_OTHER, &none));
	check(sched_getscheduler(0) == SCHED_OTHER);
	expect(0, setpriority(PRIO_PROCESS, 0, -5));
	check(getpriority(PRIO_PROCESS, 0) == -5);
	expect(0, setpriority(PRIO_PROCESS, 0, 0));
}

static void round_of_calls(void)
{
	// On the root's filesystem, and on one of the container's own, where the node has to be covered.
	expect(0, mknod("/n", S_IFCHR | 0666, makedev(1, 3)));
	check(is_null("/n"));
	expect(0, mknodat(AT_FDCWD, "/own/n", S_IFCHR | 0666, makedev(1, 3)));
	check(is_null("/own/n") && opens("/own/n"));
	memory();
	schedule();
	expect(0, setxattr("/file", OPAQUE, "y", 1, XATTR_CREATE));
	check(equals("/file", "y"));
	expect(0, mount(disk, "/mnt", "ext4", MS_NOATIME, ""));
	check(access("/mnt/lost+found", F_OK) == 0);
	expect(0, mount(NULL, "/mnt", NULL, MS_REMOUNT | MS_RDONLY, NULL));
	check(mkdir("/mnt/d", 0755) != 0 && errno == EROFS);
	expect(0, mount(NULL, "/mnt", NULL, MS_REMOUNT, NULL));
	check(mkdir("/mnt/d", 0755) == 0 && rmdir("/mnt/d") == 0);
	tick();
	expect(EEXIST, mknod("/n", S_IFCHR | 0666, makedev(1, 3)));
	expect(EEXIST, setxattr("/file", OPAQUE, "y", 1, XATTR_CREATE));
	expect(EBUSY, mount(disk, "/mnt", "ext4", MS_NOATIME, ""));
	expect(0, setxattr("/file", OPAQUE, "x", 1, XATTR_REPLACE));
	check(equals("/file", "x"));
	expect(0, removexattr("/file", OPAQUE));
	check(umount("/mnt") == 0 && access("/mnt/lost+found", F_OK) != 0);
	check(unlink("/n") == 0 && umount("/own/n") == 0 && unlink("/own/n") == 0);
	tick();
	expect(ENODATA, removexattr("/file", OPAQUE));
}

static int input_ended(void)
{
	struct pollfd p = {0, POLLIN, 0};
	return poll(&p, 1, 0) > 0;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	limit = strtoul(argv[1], NULL, 10);
	disk = argv[2];
	setvbuf(stdout, NULL, _IOLBF, 0);
	umask(0);
	if (mkdir("/own", 0755) != 0 || mkdir("/mnt", 0755) != 0 || mount("own", "/own", "tmpfs", 0, "") != 0 ||
	    close(open("/file", O_CREAT | O_WRONLY, 0644)) != 0) {
		perror("preparing");
		return 1;
	}
	puts("ready");
	while (!input_ended())
		round_of_calls();
	printf("calls %ld wrong %ld longest %.0f: %s\n", calls, wrongs, longest, longest_what);
	return 0;
}
