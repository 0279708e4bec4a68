// tricks WHAT COUNT SECONDS [WORD...]: tries to have done what the caller may not do, where its standard input is a directory of the host.
// It prints a line for each gain that it sees itself, and "done COUNT" at the end; the test looks at the host.
//
//	exchange  descriptors are exchanged while they are used: the container's own directories for the host's
//	cgroup    likewise, for programs that are attached to a cgroup
//	links     paths lead through links that are exchanged: to a directory of its own, and to each WORD
//	nested    root of a user namespace below the container's makes every call
//	pids      the scheduling of each WORD, a process of the host, is changed, and that of odd numbers
//	full      descriptors are added to a table that is full
//	options   options of ext4 on /disk that may not be given, in every form
#include "common.h"
#include <linux/bpf.h>
#include <sys/statvfs.h>

#define ATTRIBUTE "trusted.overlay.opaque"

static long count;
static int64_t end;

static long sys_bpf(int command, union bpf_attr *attr) { return syscall(__NR_bpf, command, attr, sizeof *attr); }

static long load(void)
{
	struct bpf_insn code[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 1}, {.code = BPF_JMP | BPF_EXIT}};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insn_cnt = 2, .insns = (uintptr_t)code, .license = (uintptr_t) "GPL",
	};
	return sys_bpf(BPF_PROG_LOAD, &attr);
}

static int opened(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY);
	check(fd < 0, path);
	return fd;
}

#define SHARED 100 // the number of a descriptor that is exchanged
static int mine;
static volatile int over;

static void *exchange(void *unused)
{
	while (!over) {
		dup2(mine, SHARED);
		dup2(0, SHARED);
	}
	return NULL;
}

// exchanging has a thread exchange the descriptor while run is called again and again.
static long exchanging(void (*run)(long))
{
	pthread_t thread;
	long n;
	dup2(mine, SHARED);
	check(pthread_create(&thread, NULL, exchange, NULL), "pthread_create");
	for (n = 0; n < count && now_ns() < end; n++)
		run(n);
	over = 1;
	pthread_join(thread, NULL);
	return n;
}

// What may be done must be done now and then, or nothing is tried.
static struct {
	const char *what;
	long done;
} controls[4];

static void control(int i, const char *what, int done)
{
	controls[i].what = what;
	controls[i].done += done;
}

static void check_controls(void)
{
	for (size_t i = 0; i < sizeof controls / sizeof *controls; i++)
		if (controls[i].what && !controls[i].done)
			printf("%s never succeeded where it may\n", controls[i].what);
}

static void use_directory(long n)
{
	char name[32];
	snprintf(name, sizeof name, "node-%ld", n);
	mknodat(SHARED, name, S_IFCHR | 0666, makedev(1, 3));
	control(1, "fsetxattr", !fsetxattr(SHARED, ATTRIBUTE, "y", 1, 0));
	control(0, "mknodat", !unlinkat(mine, name, 0));
}

static int program;

static void use_cgroup(long n)
{
	union bpf_attr attr = {
		.target_fd = SHARED, .attach_bpf_fd = program, .attach_type = BPF_CGROUP_DEVICE, .attach_flags = BPF_F_ALLOW_MULTI,
	};
	sys_bpf(BPF_PROG_ATTACH, &attr);
	attr.target_fd = mine;
	attr.attach_flags = 0;
	control(0, "BPF_PROG_ATTACH", !sys_bpf(BPF_PROG_DETACH, &attr));
}

static long exchange_directories(void)
{
	check(mkdir("/own", 0755), "/own");
	mine = opened("/own");
	return exchanging(use_directory);
}

static long exchange_cgroups(void)
{
	check(mkdir("/cgroup", 0755) || mount("none", "/cgroup", "cgroup2", 0, NULL), "/cgroup");
	mine = opened("/cgroup");
	program = load();
	check(program < 0, "BPF_PROG_LOAD");
	return exchanging(use_cgroup);
}

static void *exchange_links(void *unused)
{
	while (!over)
		syscall(__NR_renameat2, AT_FDCWD, "/a", AT_FDCWD, "/b", 2); // RENAME_EXCHANGE
	return NULL;
}

static long links(char **words)
{
	pthread_t thread;
	long n = 0;
	check(mkdir("/own", 0755) || symlink("/own", "/a"), "/a");
	for (char **word = words; n < count && now_ns() < end; word = word[1] ? word + 1 : words) {
		over = 0;
		unlink("/b");
		check(symlink(*word, "/b"), "/b");
		check(pthread_create(&thread, NULL, exchange_links, NULL), "pthread_create");
		for (long i = 0; i < 5; i++, n++) {
			char path[32];
			snprintf(path, sizeof path, "/a/node-%ld", n);
			control(0, "mknod", !mknod(path, S_IFCHR | 0666, makedev(1, 3)));
			control(1, "setxattr", !setxattr("/a", ATTRIBUTE, "y", 1, 0));
		}
		mount("/disk", "/a", "ext4", 0, NULL);
		control(2, "mount", !umount2("/own", MNT_DETACH));
		over = 1;
		pthread_join(thread, NULL);
		unlink("/a");
		unlink("/b");
		check(symlink("/own", "/a"), "/a");
	}
	return n;
}

static void expect_refused(const char *what, long result)
{
	if (result >= 0)
		printf("%s succeeded\n", what);
}

static void write_file(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CLOEXEC);
	check(fd < 0 || write(fd, text, strlen(text)) < 0, name);
	close(fd);
}

static long nested(void)
{
	struct sched_param param = {1};
	check(mkdir("/nested", 0777) || chmod("/nested", 0777), "/nested");
	for (int all = 0; all < 2; all++) { // whether more ids than one are mapped
		pid_t child = fork();
		if (child) {
			waitpid(child, NULL, 0);
			continue;
		}
		if (!all) {
			check(unshare(CLONE_NEWUSER | CLONE_NEWNS), "unshare");
			write_file("/proc/self/setgroups", "deny");
			write_file("/proc/self/uid_map", "0 0 1");
			write_file("/proc/self/gid_map", "0 0 1");
		} else {
			int ready[2];
			char byte;
			check(pipe(ready), "pipe");
			pid_t self = getpid(), helper = fork();
			if (!helper) {
				char name[64];
				close(ready[1]);
				if (read(ready[0], &byte, 1) != 1)
					_exit(1);
				snprintf(name, sizeof name, "/proc/%d/uid_map", self);
				write_file(name, "0 0 1000");
				snprintf(name, sizeof name, "/proc/%d/gid_map", self);
				write_file(name, "0 0 1000");
				_exit(0);
			}
			check(unshare(CLONE_NEWUSER | CLONE_NEWNS) || write(ready[1], "x", 1) != 1, "unshare");
			waitpid(helper, NULL, 0);
		}
		for (long i = 0; i < 20; i++) {
			union bpf_attr attr = {.attach_type = BPF_CGROUP_DEVICE};
			expect_refused("mknod", mknod("/nested/node", S_IFCHR | 0666, makedev(1, 3)));
			expect_refused("setxattr", setxattr("/nested", ATTRIBUTE, "y", 1, 0));
			expect_refused("sched_setscheduler", sched_setscheduler(0, SCHED_FIFO, &param));
			expect_refused("setpriority", setpriority(PRIO_PROCESS, 0, -1));
			expect_refused("mount", mount("/disk", "/nested", "ext4", 0, NULL));
			expect_refused("fsopen", syscall(430, "ext4", 0) < 0 ? -1 : mount("/disk", "/nested", "ext4", 0, NULL));
			expect_refused("BPF_PROG_LOAD", load());
			expect_refused("BPF_PROG_ATTACH", sys_bpf(BPF_PROG_ATTACH, &attr));
		}
		fflush(stdout);
		_exit(0);
	}
	return 40;
}

static long pids(char **words)
{
	static const char *odd[] = {"-1", "-2147483648", "2147483647", "4294967295", "4194304", "0x100000001", "-2", NULL};
	const char **lists[] = {(const char **)words, odd};
	long n = 0;
	control(0, "sched_setscheduler", !sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0}));
	for (int list = 0; list < 2; list++)
		for (const char **word = lists[list]; *word; word++, n++) {
			long pid = strtoll(*word, NULL, 0);
			struct sched_param param = {0};
			uint32_t attr[14] = {48, SCHED_BATCH};
			int own = !kill((pid_t)pid, 0) && (pid_t)pid > 0; // a number of the container's too
			long results[] = {
				syscall(__NR_sched_setscheduler, pid, SCHED_BATCH, &param), syscall(__NR_sched_setparam, pid, &param),
				syscall(__NR_sched_setattr, pid, attr, 0), syscall(__NR_setpriority, PRIO_PROCESS, pid, -3),
			};
			for (int i = 0; i < 4; i++)
				if (results[i] >= 0 && !own)
					printf("call %d changes process %s\n", i, *word);
		}
	return n;
}

static long full(void)
{
	struct rlimit limit = {32, 32};
	long n, fd, refused = 0;
	check(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
	while (dup(0) >= 0)
		;
	for (n = 0; n < count && now_ns() < end; n++) {
		if (n % 50 == 49)
			close(31);
		if ((fd = load()) < 0 && errno == EMFILE)
			refused++;
		else if (n % 50 != 49 || fd != 31)
			printf("a program in a full table: descriptor %ld, %s\n", fd, strerror(errno));
	}
	if (!refused)
		printf("no call was refused\n");
	return n;
}

static const char *forbidden[] = {"errors=panic", "journal_path=/own", "journal_dev=0x700", "test_dummy_encryption", "dev", "suid", "sb=8193", "uid=0"};
static const char *harmless[] = {"", "ro", "noatime", "errors=continue", "discard", "x=y", "nosuid,nodev", "data=ordered"};

#define PICK(list) list[rand() % (sizeof list / sizeof *list)]

// random_options makes a list of options, some of which may not be given, in one of many forms.
static void random_options(char *text, size_t size)
{
	char *at = text;
	for (int i = rand() % 4; i >= 0; i--) {
		const char *option = rand() % 2 ? PICK(forbidden) : PICK(harmless);
		at += snprintf(at, text + size - at, "%s%s", at > text ? "," : "", option);
		switch (rand() % 12) {
		case 0: *at++ = ' '; break;
		case 1: *at++ = ','; break;
		case 2: *at++ = '\\'; break;
		case 3: *at++ = '\t'; break;
		case 4: *at++ = '\n'; break;
		case 5: at[-1] ^= 0x20; break;
		case 6: *at++ = 0; break;
		case 7: *at++ = (char)0x80; break;
		case 8: *at++ = '='; break;
		}
	}
	*at = 0;
}

static void check_mount(const char *options)
{
	struct statvfs stat;
	char line[4096];
	FILE *mounts = fopen("/proc/self/mountinfo", "r");
	check(!mounts, "mountinfo");
	if (statvfs("/own", &stat) || !(stat.f_flag & ST_NOSUID) || !(stat.f_flag & ST_NODEV))
		printf("options %s: no nosuid and nodev\n", options);
	while (fgets(line, sizeof line, mounts))
		if (strstr(line, " /own ") && (strstr(line, "errors=panic") || strstr(line, "journal_path") || strstr(line, "dummy")))
			printf("options %s: %s", options, line);
	fclose(mounts);
}

static long options(void)
{
	long n, mounted = 0;
	check(mkdir("/own", 0755), "/own");
	for (n = 0; n < count && now_ns() < end; n++) {
		static char page[8192] __attribute__((aligned(4096)));
		char text[512];
		random_options(text, sizeof text);
		strcpy(page, text);
		unsigned long flags = (unsigned long[]){0, MS_RDONLY, MS_MGC_VAL, MS_NOATIME, MS_SILENT, 1UL << 30}[rand() % 6];
		if (mount("/disk", "/own", "ext4", flags, page))
			continue;
		mounted++;
		check_mount(text);
		random_options(text, sizeof text);
		strcpy(page, text);
		if (!mount("/disk", "/own", "ext4", MS_REMOUNT | flags, page))
			check_mount(text);
		check(umount2("/own", 0), "umount");
	}
	if (!mounted)
		printf("nothing was ever mounted\n");
	return n;
}

int main(int argc, char **argv)
{
	check(argc < 4, "tricks WHAT COUNT SECONDS [WORD...]");
	const char *what = argv[1];
	count = atol(argv[2]);
	end = now_ns() + atoll(argv[3]) * 1000000000;
	setvbuf(stdout, NULL, _IOLBF, 0);
	long n = !strcmp(what, "exchange") ? exchange_directories() :
		!strcmp(what, "cgroup") ? exchange_cgroups() :
		!strcmp(what, "links") ? links(argv + 4) :
		!strcmp(what, "nested") ? nested() :
		!strcmp(what, "pids") ? pids(argv + 4) :
		!strcmp(what, "full") ? full() :
		!strcmp(what, "options") ? options() : 0;
	check_controls();
	printf("done %ld\n", n);
	return !n;
}
