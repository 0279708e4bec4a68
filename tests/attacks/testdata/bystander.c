// bystander MEMORY: makes mknod(2) and sysinfo(2) in turn, with pauses, as a container that nobody should harm. MEMORY is its limit, in
// bytes. What it measures from a line "rest" on, until a line "attack", and the other way round, is kept apart. For each line "report" it
// prints
//
//	CALLS ERRORS MKNOD SYSINFO LONGEST WAITING TEXT
//
// of the kind of time that it is now: numbers, the medians of both calls and the longest time, all in ns, how long the present call has
// taken so far, and the last error, or "-".
#include "common.h"

#define NODE "/dev/node" // on a tmpfs: other containers use the journal of a disk too
#define PAUSE 2000000 // ns
#define SAMPLES 65536

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct measured {
	int32_t of[2][SAMPLES]; // the latest, in ns
	long count[2];
	long errors;
	int64_t longest;
	char error[64];
} start, rest, attack, *now = &start;

static int64_t began; // the present call; 0: between two calls

static void begin(void)
{
	pthread_mutex_lock(&lock);
	began = now_ns();
	pthread_mutex_unlock(&lock);
}

static void end(int which, const char *error)
{
	pthread_mutex_lock(&lock);
	int64_t took = now_ns() - began;
	now->of[which][now->count[which]++ % SAMPLES] = took < INT32_MAX ? took : INT32_MAX;
	if (took > now->longest)
		now->longest = took;
	if (error) {
		now->errors++;
		snprintf(now->error, sizeof now->error, "%s", error);
	}
	began = 0;
	pthread_mutex_unlock(&lock);
}

static int smaller(const void *a, const void *b) { return *(const int32_t *)a < *(const int32_t *)b ? -1 : 1; }

static int median(int which)
{
	static int32_t sorted[SAMPLES];
	size_t n = now->count[which] < SAMPLES ? now->count[which] : SAMPLES;
	if (!n)
		return 0;
	memcpy(sorted, now->of[which], n * sizeof *sorted);
	qsort(sorted, n, sizeof *sorted, smaller);
	return sorted[n / 2];
}

static void report(void)
{
	printf("%ld %ld %d %d %ld %ld %s\n", now->count[0] + now->count[1], now->errors, median(0), median(1), (long)now->longest,
		began ? (long)(now_ns() - began) : 0L, *now->error ? now->error : "-");
	fflush(stdout);
}

static void *answer(void *unused)
{
	char line[64];
	while (fgets(line, sizeof line, stdin)) {
		pthread_mutex_lock(&lock);
		if (!strcmp(line, "rest\n"))
			now = &rest;
		else if (!strcmp(line, "attack\n"))
			now = &attack;
		else
			report();
		pthread_mutex_unlock(&lock);
	}
	exit(0);
}

int main(int argc, char **argv)
{
	pthread_t thread;
	char text[64];
	uint64_t memory;
	check(argc != 2, "bystander MEMORY");
	memory = strtoull(argv[1], NULL, 10);
	check(pthread_create(&thread, NULL, answer, NULL), "pthread_create");
	for (;; sleep_ns(PAUSE)) {
		struct sysinfo info;
		begin();
		int failed = mknod(NODE, S_IFCHR | 0666, makedev(1, 3));
		snprintf(text, sizeof text, "mknod: %s", strerror(errno));
		end(0, failed ? text : NULL);
		unlink(NODE);
		begin();
		failed = sysinfo(&info);
		snprintf(text, sizeof text, "sysinfo: %s", failed ? strerror(errno) : "the memory of the host");
		end(1, failed || info.totalram * info.mem_unit != memory ? text : NULL);
	}
}
