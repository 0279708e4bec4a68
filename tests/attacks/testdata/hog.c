// hog WHAT THREADS SECONDS: makes a load of calls until the time is over, and prints how many there were.
//
//	mknod, sysinfo, mount   calls, with THREADS threads; those of mount are refused with a line in the log
//	files, kernel           the same without the daemon: regular files are made, and getppid is called
//	groups                  calls of mknod by threads with 65,536 supplementary groups
//	killed                  THREADS callers at a time, each killed in the midst of a call
//	spin                    SCHED_FIFO on processor THREADS, without calls
//	divisions               loads of BPF programs that take the verifier long
#include "common.h"
#include <linux/bpf.h>

static int64_t end;
static long made;

static void count(void) { __atomic_fetch_add(&made, 1, __ATOMIC_RELAXED); }

static void *make_nodes(void *unused)
{
	char path[32];
	snprintf(path, sizeof path, "/node-%ld", (long)syscall(__NR_gettid));
	while (now_ns() < end) {
		mknod(path, S_IFCHR | 0666, makedev(1, 3));
		unlink(path);
		count();
	}
	return NULL;
}

static void *get_information(void *unused)
{
	struct sysinfo info;
	while (now_ns() < end) {
		sysinfo(&info);
		count();
	}
	return NULL;
}

static void *make_files(void *unused)
{
	char path[32];
	snprintf(path, sizeof path, "/file-%ld", (long)syscall(__NR_gettid));
	while (now_ns() < end) {
		mknod(path, S_IFREG | 0666, 0);
		unlink(path);
		count();
	}
	return NULL;
}

static void *call_kernel(void *unused)
{
	while (now_ns() < end) {
		syscall(__NR_getppid);
		count();
	}
	return NULL;
}

static void *mount_disks(void *unused)
{
	while (now_ns() < end) {
		mount("/disk", "/tmp", "ext4", 0, "journal_path=/dev/sda");
		count();
	}
	return NULL;
}

static void *load_divisions(void *unused)
{
	enum { N = 4096 };
	struct bpf_insn *code = calloc(N, sizeof *code);
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insn_cnt = N, .insns = (uintptr_t)code, .license = (uintptr_t) "GPL",
	};
	check(!code, "calloc");
	code[0] = code[1] = (struct bpf_insn){.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 1};
	code[1].dst_reg = 1;
	for (int i = 2; i < N - 1; i++)
		code[i] = (struct bpf_insn){.code = BPF_ALU64 | BPF_DIV | BPF_X, .dst_reg = 0, .src_reg = 1};
	code[N - 1].code = BPF_JMP | BPF_EXIT;
	while (now_ns() < end) {
		long fd = syscall(__NR_bpf, BPF_PROG_LOAD, &attr, sizeof attr);
		if (fd >= 0)
			close(fd);
		count();
	}
	return NULL;
}

static void have_groups(void)
{
	static gid_t groups[65536];
	for (int i = 0; i < 65536; i++)
		groups[i] = i;
	check(setgroups(65536, groups), "setgroups");
}

// killed_ones are started and killed by one thread.
static void *kill_callers(void *unused)
{
	unsigned seed = syscall(__NR_gettid);
	while (now_ns() < end) {
		pid_t child = fork();
		check(child < 0, "fork");
		if (!child) {
			struct sysinfo info;
			for (;;) {
				mknod("/tmp/killed", S_IFCHR | 0666, makedev(1, 3));
				sysinfo(&info);
				unlink("/tmp/killed");
			}
		}
		sleep_ns(rand_r(&seed) % 3000000);
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		count();
	}
	return NULL;
}

static void spin(int processor)
{
	struct sched_param param = {50};
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	check(sched_setaffinity(0, sizeof set, &set), "sched_setaffinity");
	check(sched_setscheduler(0, SCHED_FIFO, &param), "sched_setscheduler");
	while (now_ns() < end)
		;
}

static const struct load {
	const char *name;
	void *(*run)(void *);
} loads[] = {
	{"mknod", make_nodes}, {"groups", make_nodes}, {"sysinfo", get_information}, {"mount", mount_disks}, {"killed", kill_callers},
	{"divisions", load_divisions}, {"files", make_files}, {"kernel", call_kernel},
};

int main(int argc, char **argv)
{
	void *(*run)(void *) = NULL;
	check(argc != 4, "hog WHAT THREADS SECONDS");
	int n = atoi(argv[2]);
	end = now_ns() + atoll(argv[3]) * 1000000000;
	if (!strcmp(argv[1], "spin")) {
		spin(n);
		return 0;
	}
	for (size_t i = 0; i < sizeof loads / sizeof *loads; i++)
		if (!strcmp(argv[1], loads[i].name))
			run = loads[i].run;
	check(!run, argv[1]);
	if (!strcmp(argv[1], "groups"))
		have_groups();
	pthread_t *threads = calloc(n, sizeof *threads);
	for (int i = 0; i < n; i++)
		check(pthread_create(&threads[i], NULL, run, NULL), "pthread_create");
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	printf("%ld\n", made);
	return 0;
}
