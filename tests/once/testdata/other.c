// other WHAT SLEEP TOKEN
//
// Makes a call that SIGALRM, which the test sends, takes it out of. The handler sleeps for SLEEP ms, and changes
// WHAT: the call that the kernel restarts is then another one, which must have a result of its own. It prints "ready"
// and waits for a line before, and then "ok" or what is wrong. TOKEN is for those who look for the process.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define USER 1000
#define FIRST "/first/node"
#define SECOND "/second/node"
#define PRIVILEGED "/privileged"

static char path[64] = FIRST;
static int descriptor = AT_FDCWD;
static long sleep_ms;
static void (*change)(void);
static volatile sig_atomic_t signals;

static void check(int failed, const char *what)
{
	if (failed) {
		printf("%s: %s\n", what, strerror(errno));
		exit(1);
	}
}

static void sleep_for(long ms)
{
	struct timespec time = {ms / 1000, ms % 1000 * 1000000};
	while (nanosleep(&time, &time) && errno == EINTR)
		;
}

static void handle(int number)
{
	signals++;
	sleep_for(sleep_ms);
	if (change)
		change();
}

// make makes the call with the same six registers each time, and returns its errno.
static int make(void)
{
	long failed = syscall(__NR_mknodat, (long)descriptor, path, (long)(S_IFCHR | 0666), (long)makedev(1, 3), 0L, 0L);
	return failed ? errno : 0;
}

static int is_node(const char *name)
{
	struct stat st;
	return !lstat(name, &st) && S_ISCHR(st.st_mode);
}

static void expect_signal(int flags)
{
	struct sigaction action = {.sa_handler = handle, .sa_flags = flags};
	check(sigaction(SIGALRM, &action, NULL), "sigaction");
}

static void ready(void)
{
	char line[8];
	puts("ready");
	fflush(stdout);
	check(!fgets(line, sizeof line, stdin), "fgets");
}

static void other_memory(void) { strcpy(path, SECOND); }
static void other_directory(void) { check(chdir("/second"), "chdir"); }
static void other_descriptor(void) { check(dup2(open("/second", O_PATH), descriptor) < 0, "dup2"); }
static void other_user(void) { check(setgroups(0, NULL) || setresgid(USER, USER, USER) || setresuid(USER, USER, USER), "setresuid"); }

// judge says what is wrong with the result of a call that has changed, and is to make a node, or to be refused.
static const char *judge(int got, int refused)
{
	static char text[128];
	if (signals && (refused ? got : !got && is_node(SECOND)))
		return "ok";
	snprintf(text, sizeof text, "after %d signals: %s; the second node %s", (int)signals, strerror(got),
	         is_node(SECOND) ? "is there" : "is missing");
	return text;
}

// privileged is what the set-user-ID program does: the same call, from the same place, by a thread of the same id.
static int privileged(void)
{
	int got = make();
	puts(got || !is_node(FIRST) ? strerror(got) : "ok");
	return 0;
}

static void *execute(void *alarm)
{
	int number;
	sigwait(alarm, &number);
	execl(PRIVILEGED, PRIVILEGED, "privileged", "0", "-", NULL);
	return NULL;
}

// exec has an unprivileged thread be replaced by that program while it is in the call, when the signal comes.
static void exec_other(void)
{
	pthread_t thread;
	sigset_t alarm;
	char command[256] = "";
	int from = open("/proc/self/exe", O_RDONLY), to = open(PRIVILEGED, O_WRONLY | O_CREAT | O_TRUNC, 0755);
	for (ssize_t n; (n = read(from, command, sizeof command)) > 0;)
		check(write(to, command, n) != n, "write");
	check(fchmod(to, 04755) || close(to), "chmod");
	fflush(stdout);
	other_user();
	ready();
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	check(sigprocmask(SIG_BLOCK, &alarm, NULL) || pthread_create(&thread, NULL, execute, &alarm), "pthread_create");
	make();
	sleep_for(10000); // it is refused, in the end
	puts("no program was executed");
}

// twin makes the call in another thread while this one is out of it.
static void *twin(void *result)
{
	while (!signals)
		sleep_for(1);
	*(int *)result = make();
	return NULL;
}

static const char *two_threads(void)
{
	pthread_t thread;
	int other, own;
	check(pthread_create(&thread, NULL, twin, &other), "pthread_create");
	own = make();
	pthread_join(thread, NULL);
	// Both ask for the same node: one of them makes it.
	if ((own == 0 && other == EEXIST) || (own == EEXIST && other == 0))
		return "ok";
	return own || other ? "both of two threads are refused" : "both of two threads made one node";
}

int main(int argc, char **argv)
{
	check(argc != 4, "usage");
	const char *what = argv[1];
	sleep_ms = atol(argv[2]);
	umask(0);
	if (!strcmp(what, "privileged"))
		return privileged();
	check((mkdir("/first", 0755) || mkdir("/second", 0755)) && errno != EEXIST, "mkdir");
	mknod("/refused", S_IFCHR | 0666, makedev(1, 1)); // LXC brings the container with its first call
	if (!strcmp(what, "exec")) {
		exec_other();
		return 0;
	}
	if (!strcmp(what, "memory")) {
		change = other_memory;
	} else if (!strcmp(what, "directory")) {
		change = other_directory;
		strcpy(path, "node");
		check(chdir("/first"), "chdir");
	} else if (!strcmp(what, "descriptor")) {
		change = other_descriptor;
		strcpy(path, "node");
		descriptor = open("/first", O_PATH);
	} else if (!strcmp(what, "credentials")) {
		change = other_user;
	}
	ready();
	expect_signal(strcmp(what, "interrupted") && strcmp(what, "waiting") ? SA_RESTART : 0);
	if (!strcmp(what, "threads")) {
		puts(two_threads());
	} else if (!strcmp(what, "credentials")) {
		puts(judge(make(), 1));
	} else if (!strcmp(what, "nothing") || !strcmp(what, "interrupted") || !strcmp(what, "waiting")) {
		int got = make(), interrupted = got == EINTR;
		if (interrupted)
			got = make(); // by the program itself: it is the same call
		if (!signals || interrupted != !strcmp(what, "interrupted") || got || !is_node(FIRST))
			printf("%d signals, %s\n", (int)signals, strerror(got));
		else
			puts(make() == EEXIST ? "ok" : "one more call, of the same kind, has the result of the first");
	} else {
		puts(judge(make(), 0));
	}
	return 0;
}
