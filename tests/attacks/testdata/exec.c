// exec CALL WORKERS ATTEMPTS SECONDS DELAY HOLD
//
// In each attempt a thread group leader without any privilege waits in CALL, while its second thread executes a set-user-ID
// program, which gets the leader's thread id and its struct pid (de_thread, fs/exec.c). It does so up to DELAY ns after the call
// began, and the program then lives for HOLD ns. WORKERS processes do that, until there were ATTEMPTS or the time is over. It
// prints how many attempts gained what only the set-user-ID program may have, in how many that was executed, in how many the
// call had returned before, and what the call returned last where it succeeded before.
#include "common.h"
#include <linux/bpf.h>

#define FOLDER "/race"
#define SETUID FOLDER "/privileged"
#define MARKS FOLDER "/marks"

// Ends of a process of an attempt.
enum { EXECUTED = 0, REFUSED = 10, SUCCEEDED, NOT_EXECUTED, CHANGED, STRAY };

// What the set-user-ID program has at an address that is known, since it is not position-independent.
static unsigned char memory[4096] __attribute__((aligned(4096), section(".data"))) = {1};

struct totals {
	long attempts, gained, executed, refused, succeeded, stray;
};

// one is a worker's part of the attack.
static struct {
	char open[64], closed[64]; // folders: everybody may write to the one, root to the other
	pid_t victim;              // a process of root
	int program, cgroup;
	long attempt;
} one;

static long sys_bpf(int command, union bpf_attr *attr)
{
	return syscall(__NR_bpf, command, attr, sizeof *attr);
}

// Each call of an attack: make makes it, as the ordinary user; gained reports whether there is an effect, and takes it back. every
// is after how many attempts that is looked at, where looking takes calls of its own.
struct call {
	const char *name;
	void (*prepare)(void);
	long (*make)(void);
	int (*gained)(void);
	int every;
};

static const char *folder(void) { return one.attempt % 2 ? one.open : one.closed; }

static const char *node(const char *folder)
{
	static char path[96];
	snprintf(path, sizeof path, "%s/node", folder);
	return path;
}

static long make_node(void) { return mknod(node(folder()), S_IFCHR | 0666, makedev(1, 3)); }

static int node_gained(void) { return !unlink(node(one.open)) | !unlink(node(one.closed)); }

#define ATTRIBUTE "trusted.overlay.opaque"

static void own_open(void) { check(chown(one.open, USER, USER), "chown"); }

static long set_attribute(void) { return setxattr(folder(), ATTRIBUTE, "y", 1, 0); }

static int attribute_gained(void) { return !removexattr(one.open, ATTRIBUTE) | !removexattr(one.closed, ATTRIBUTE); }

static long mount_disk(void) { return mount("/disk", folder(), "ext4", 0, NULL); }

static int mount_gained(void) { return !umount2(one.open, MNT_DETACH) | !umount2(one.closed, MNT_DETACH); }

static long mount_fuse(void) { return mount("/disk", folder(), "squashfs", 0, NULL); }

static int mark_gained(void)
{
	int gained = !unlink(MARKS "/ran");
	return mount_gained() | gained;
}

static void start_victim(void)
{
	one.victim = fork();
	check(one.victim < 0, "fork");
	if (!one.victim) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
}

static long set_scheduler(void)
{
	struct sched_param param = {1};
	return sched_setscheduler(one.victim, SCHED_FIFO, &param);
}

static int scheduler_gained(void)
{
	struct sched_param param = {0};
	if (sched_getscheduler(one.victim) == SCHED_OTHER)
		return 0;
	check(sched_setscheduler(one.victim, SCHED_OTHER, &param), "sched_setscheduler");
	return 1;
}

static long set_priority(void) { return setpriority(PRIO_PROCESS, one.victim, -5); }

static int priority_gained(void)
{
	errno = 0;
	if (getpriority(PRIO_PROCESS, one.victim) >= 0)
		return 0;
	check(setpriority(PRIO_PROCESS, one.victim, 0), "setpriority");
	return 1;
}

static void load_program(void)
{
	struct bpf_insn code[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 1}, {.code = BPF_JMP | BPF_EXIT}};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insn_cnt = 2, .insns = (uint64_t)code, .license = (uint64_t) "GPL",
	};
	char cgroup[80];
	snprintf(cgroup, sizeof cgroup, "%s/cgroup", one.closed);
	check(mkdir(cgroup, 0755) || mount("none", cgroup, "cgroup2", 0, NULL), cgroup);
	one.cgroup = open(cgroup, O_RDONLY | O_DIRECTORY);
	check(one.cgroup < 0, cgroup);
	one.program = dup(sys_bpf(BPF_PROG_LOAD, &attr)); // the duplicate outlives execve
	check(one.program < 0, "BPF_PROG_LOAD");
}

static union bpf_attr attachment(uint32_t flags)
{
	union bpf_attr attr = {
		.target_fd = one.cgroup, .attach_bpf_fd = one.program, .attach_type = BPF_CGROUP_DEVICE, .attach_flags = flags,
	};
	return attr;
}

static long attach_program(void)
{
	union bpf_attr attr = attachment(BPF_F_ALLOW_MULTI);
	return sys_bpf(BPF_PROG_ATTACH, &attr);
}

static int program_gained(void)
{
	union bpf_attr attr = attachment(0);
	return !sys_bpf(BPF_PROG_DETACH, &attr);
}

static long get_information(void) { return sysinfo((struct sysinfo *)memory); }

static void nothing(void) {}
static int never(void) { return 0; }

static const struct call calls[] = {
	{"mknod", nothing, make_node, node_gained, 1},
	{"setxattr", own_open, set_attribute, attribute_gained, 50},
	{"mount", nothing, mount_disk, mount_gained, 1},
	{"fuse", nothing, mount_fuse, mark_gained, 1},
	{"sched", start_victim, set_scheduler, scheduler_gained, 1},
	{"nice", start_victim, set_priority, priority_gained, 1},
	{"bpf", load_program, attach_program, program_gained, 50},
	{"sysinfo", nothing, get_information, never, 1}, // the program itself looks at its memory
};

static const struct call *call;
static int64_t longest, hold;

static struct start {
	volatile int calling;
	int64_t delay;
} start;

static void *execute(void *unused)
{
	char holding[24];
	char *argv[] = {SETUID, holding, NULL}, *envp[] = {NULL};
	const int64_t spun = 80000; // sleeping is not exact
	int64_t end;
	snprintf(holding, sizeof holding, "%ld", (long)hold);
	while (!start.calling)
		sched_yield();
	end = now_ns() + start.delay;
	if (start.delay > spun)
		sleep_ns(start.delay - spun);
	while (now_ns() < end)
		;
	execve(SETUID, argv, envp);
	_exit(NOT_EXECUTED);
}

static void attempt(void)
{
	pthread_t other;
	become_user();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	check(pthread_create(&other, NULL, execute, NULL), "pthread_create");
	start.calling = 1;
	_exit(call->make() < 0 ? REFUSED : SUCCEEDED);
}

// privileged is the set-user-ID program.
static int privileged(int64_t hold)
{
	for (int64_t end = now_ns() + hold; now_ns() < end; sleep_ns(hold / 4))
		;
	for (size_t i = 0; i < sizeof memory; i++)
		if (((volatile unsigned char *)memory)[i] != (i == 0))
			return CHANGED;
	return geteuid() ? STRAY : EXECUTED;
}

static void prepare(int number)
{
	snprintf(one.open, sizeof one.open, FOLDER "/%d-open", number);
	snprintf(one.closed, sizeof one.closed, FOLDER "/%d-closed", number);
	check(mkdir(one.open, 0777) || chmod(one.open, 0777) || mkdir(one.closed, 0755), one.open);
	call->prepare();
}

static void finish(void)
{
	if (!one.victim)
		return;
	kill(one.victim, SIGKILL);
	waitpid(one.victim, NULL, 0);
	one.victim = 0;
}

// control has root make the call, which may: its effect must be seen, or no attempt's would.
static void control(void)
{
	prepare(-1);
	call->make();
	check(call->gained != never && !call->gained(), "the effect of root's call is not seen");
	finish();
}

static void work(int number, struct totals *all, long attempts, int64_t end)
{
	int status;
	prepare(number);
	srand(number + 1);
	while (__atomic_fetch_add(&all->attempts, 1, __ATOMIC_RELAXED) < attempts && now_ns() < end) {
		pid_t child;
		start.delay = longest * (rand() / (RAND_MAX + 1.0));
		child = fork();
		check(child < 0, "fork");
		if (!child)
			attempt();
		check(waitpid(child, &status, 0) != child, "waitpid");
		status = WIFEXITED(status) ? WEXITSTATUS(status) : STRAY;
		long *counted = status == EXECUTED || status == CHANGED ? &all->executed :
			status == REFUSED ? &all->refused : status == SUCCEEDED ? &all->succeeded : &all->stray;
		__atomic_fetch_add(counted, 1, __ATOMIC_RELAXED);
		one.attempt++;
		if (status == CHANGED || (one.attempt % call->every == 0 && call->gained()))
			__atomic_fetch_add(&all->gained, 1, __ATOMIC_RELAXED);
	}
	if (call->gained())
		__atomic_fetch_add(&all->gained, 1, __ATOMIC_RELAXED);
	finish();
	exit(0);
}

static void install(void)
{
	char buffer[65536];
	ssize_t n;
	int from = open("/proc/self/exe", O_RDONLY), to;
	umask(022);
	check(mkdir(FOLDER, 0755) || mkdir(MARKS, 0777) || chmod(MARKS, 0777), FOLDER);
	to = open(SETUID, O_WRONLY | O_CREAT | O_EXCL, 0755);
	check(from < 0 || to < 0, SETUID);
	while ((n = read(from, buffer, sizeof buffer)) > 0)
		check(write(to, buffer, n) != n, "write");
	check(n || fchmod(to, 04755) || close(to), SETUID);
	close(from);
}

int main(int argc, char **argv)
{
	if (argc == 2)
		return privileged(atoll(argv[1]));
	if (argc != 7) { // a FUSE handler, with arguments of mount's
		close(open(MARKS "/ran", O_WRONLY | O_CREAT, 0644));
		return 1;
	}
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		if (!strcmp(calls[i].name, argv[1]))
			call = &calls[i];
	check(!call, argv[1]);
	int workers = atoi(argv[2]), status, failed = 0;
	int64_t end = now_ns() + atoll(argv[4]) * 1000000000;
	longest = atoll(argv[5]);
	hold = atoll(argv[6]);
	install();
	control();
	struct totals *all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(all == MAP_FAILED, "mmap");
	for (int i = 0; i < workers; i++) {
		pid_t child = fork();
		check(child < 0, "fork");
		if (!child)
			work(i, all, atol(argv[3]), end);
	}
	while (wait(&status) > 0)
		failed |= status;
	printf("%ld %ld %ld %ld %ld\n", all->gained, all->executed, all->refused, all->succeeded, all->stray);
	return failed != 0;
}
