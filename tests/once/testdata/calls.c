// calls WHAT CALLS SECONDS PERIOD FLAGS TOKEN
//
// Makes the call WHAT, "mknod", "mount", or "twice" for mknod of what is there, so often or so long, with a signal
// every PERIOD ns (0: none), whose handler has FLAGS: "restart" for SA_RESTART, or "eintr" for none. It prints how
// many calls it made, how many results were wrong, how many signals came, what the first wrong result was, and how many
// results were doubted (make_twice). TOKEN is for those who look for the process, "-" for nobody: with one it begins
// after a line of its input.
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t signals;
static long calls, wrong;
static char first[256] = "-";

static void check(int failed, const char *what)
{
	if (failed) {
		fprintf(stderr, "%s: %s\n", what, strerror(errno));
		exit(1);
	}
}

static int64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void count(int number)
{
	signals++;
}

static void begin_signals(long period, int flags)
{
	struct sigaction action = {.sa_handler = count, .sa_flags = flags};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
	struct itimerspec times = {{period / 1000000000, period % 1000000000}, {period / 1000000000, period % 1000000000}};
	timer_t timer;
	check(sigaction(SIGALRM, &action, NULL), "sigaction");
	check(timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &times, NULL), "timer_create");
}

// is_wrong counts a result that is not the one that the kernel gives.
static void is_wrong(const char *what, const char *got)
{
	if (!wrong++)
		snprintf(first, sizeof first, "call %ld: %s: %s", calls, what, got);
}

static void expect(const char *what, int result, int wanted)
{
	int got = result ? errno : 0;
	calls++;
	if (got != wanted)
		is_wrong(what, got ? strerror(got) : "success");
}

static int is_node(const char *path)
{
	struct stat st;
	return !lstat(path, &st) && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

static void make_node(const char *path, int wanted)
{
	expect("mknod", mknod(path, S_IFCHR | 0666, makedev(1, 3)), wanted);
	if (!is_node(path))
		is_wrong("mknod", "no node");
}

// make_nodes makes nodes of names that are new, and of one that is used again and again: of calls that are alike each has an effect.
static void make_nodes(long i)
{
	char path[64];
	snprintf(path, sizeof path, "/nodes/%ld", i % 2 ? i : 0);
	make_node(path, 0);
	if (unlink(path))
		is_wrong("unlink", strerror(errno));
}

// AWAKE is awakeTime of core/broker/doubt.go, in ns.
#define AWAKE 2000000

static long doubted;

// make_twice makes each node twice. The answer of a caller that got no processor for AWAKE is doubted: the second call
// may have it too, how often is up to the machine.
static void make_twice(long i)
{
	int64_t began = now_ns();
	make_node("/nodes/twice", 0);
	int starved = now_ns() - began >= AWAKE;
	if (!starved) {
		make_node("/nodes/twice", EEXIST);
	} else if (calls++, !mknod("/nodes/twice", S_IFCHR | 0666, makedev(1, 3))) {
		doubted++;
	} else if (errno != EEXIST) {
		is_wrong("mknod", strerror(errno));
	}
	if (unlink("/nodes/twice"))
		is_wrong("unlink", strerror(errno));
}

static dev_t device_of(const char *path)
{
	struct stat st;
	check(stat(path, &st), path);
	return st.st_dev;
}

static void mount_disk(long i)
{
	dev_t below = device_of("/mount");
	expect("mount", mount("/disk", "/mount", "ext4", 0, NULL), 0);
	if (device_of("/mount") == below)
		is_wrong("mount", "nothing is mounted");
	while (umount("/mount"))
		if (errno != EBUSY) {
			is_wrong("umount", strerror(errno));
			break;
		}
	if (device_of("/mount") != below) {
		is_wrong("mount", "it is mounted twice");
		while (!umount2("/mount", MNT_DETACH))
			;
	}
}

int main(int argc, char **argv)
{
	check(argc != 7, "usage");
	char line[8];
	check(strcmp(argv[6], "-") && !fgets(line, sizeof line, stdin), "fgets");
	long most = atol(argv[2]), period = atol(argv[4]), i = 0;
	int64_t end = now_ns() + atol(argv[3]) * 1000000000LL;
	void (*make)(long) = !strcmp(argv[1], "mount") ? mount_disk : !strcmp(argv[1], "twice") ? make_twice : make_nodes;
	umask(0);
	check((mkdir("/nodes", 0755) || mkdir("/mount", 0755)) && errno != EEXIST, "mkdir");
	if (period)
		begin_signals(period, strcmp(argv[5], "eintr") ? SA_RESTART : 0);
	do
		make(i++);
	while (calls < most && now_ns() < end);
	printf("%ld %ld %ld %s; %ld doubted\n", calls, wrong, (long)signals, first, doubted);
	return 0;
}
