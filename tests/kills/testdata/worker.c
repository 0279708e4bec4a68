// worker makes calls that plugins answer, one after the other, and checks what each has done, until its input ends.
// Then it prints a line: the calls, the longest in ms, the median in ms of those that took more than 20 ms, and how
// many these were. Whatever is wrong is a line of its own: "wrong: ...".
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define SLOW 20.0 /* ms: a call that waited for a daemon */
#define MAXSLOW 100000

static double slow[MAXSLOW], longest;
static int slows;
static long calls, wrongs;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static double began;

static void begin(void) { began = now(); }

static void end(void)
{
	double took = now() - began;
	calls++;
	if (took > longest)
		longest = took;
	if (took > SLOW && slows < MAXSLOW)
		slow[slows++] = took;
}

static void wrong(const char *what, long result, int error)
{
	if (wrongs++ < 20)
		printf("wrong: %s: %ld, %s\n", what, result, strerror(error));
}

static int input_ended(void)
{
	struct pollfd p = {0, POLLIN, 0};
	return poll(&p, 1, 0) > 0;
}

static int ascending(const void *a, const void *b)
{
	double d = *(const double *)a - *(const double *)b;
	return d < 0 ? -1 : d > 0;
}

static unsigned long total; /* what sysinfo says at first */

static void node(long i)
{
	char name[64];
	struct stat st;
	snprintf(name, sizeof name, "/tmp/%d-%ld", getpid(), i);
	begin();
	int r = mknod(name, S_IFCHR | 0666, makedev(1, 3));
	int error = errno;
	end();
	if (r != 0)
		wrong("mknod", r, error);
	else if (lstat(name, &st) != 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
		wrong("no such node after mknod", 0, errno);
	if (unlink(name) != 0 && r == 0)
		wrong("unlink", -1, errno);
}

static void memory(void)
{
	struct sysinfo info;
	begin();
	int r = sysinfo(&info);
	int error = errno;
	end();
	unsigned long t = info.totalram * info.mem_unit;
	if (r != 0)
		wrong("sysinfo", r, error);
	else if (total == 0)
		total = t;
	else if (t != total)
		wrong("sysinfo: another total", t, 0);
}

static void attribute(void)
{
	begin();
	int r = setxattr("/tmp", "trusted.overlay.opaque", "y", 1, 0);
	int error = errno;
	end();
	if (r != 0)
		wrong("setxattr", r, error);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	umask(0);
	puts("ready");
	for (long i = 0; !input_ended(); i++) {
		node(i);
		memory();
		attribute();
		usleep(200);
	}
	qsort(slow, slows, sizeof slow[0], ascending);
	printf("calls %ld longest %.0f median %.0f of %d wrong %ld\n", calls, longest, slows ? slow[slows / 2] : 0.0, slows, wrongs);
	return 0;
}
