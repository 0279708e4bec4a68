// fuzz ROUNDS SECONDS SEED: makes every call that is intercepted, with arguments of every kind, as root of the container and as an ordinary
// user. It prints "done COUNT" and waits for the end of its input.
#include "common.h"
#include <linux/bpf.h>

#define COUNT(list) (sizeof list / sizeof *(list))

static char node[] = "/tmp/node", folder[] = "/tmp", name[] = "trusted.overlay.opaque", value[] = "y", disk[] = "/disk", type[] = "ext4", ro[] = "ro";
static char room[4096];
static uint32_t param[1], attr[14] = {48, SCHED_BATCH};
static uint64_t loaded[16], args[2]; // set in fuzz

#define P(pointer) (long)(pointer)

// Calls that make sense, but for their descriptors.
static const struct {
	long number, args[6];
} calls[] = {
	{__NR_mknod, {P(node), S_IFCHR | 0666, 0x103}}, {__NR_mknodat, {-100, P(node), S_IFCHR | 0666, 0x103}}, {__NR_sysinfo, {P(room)}},
	{__NR_setxattr, {P(folder), P(name), P(value), 1}}, {__NR_lsetxattr, {P(folder), P(name), P(value), 1}},
	{__NR_fsetxattr, {3, P(name), P(value), 1}}, {__NR_getxattr, {P(folder), P(name), P(room), 8}},
	{__NR_lgetxattr, {P(folder), P(name), P(room), 8}}, {__NR_fgetxattr, {3, P(name), P(room), 8}}, {__NR_removexattr, {P(folder), P(name)}},
	{__NR_lremovexattr, {P(folder), P(name)}}, {__NR_fremovexattr, {3, P(name)}}, {463, {-100, P(folder), 0, P(name), P(args), 16}},
	{464, {-100, P(folder), 0, P(name), P(args), 16}}, {466, {-100, P(folder), 0, P(name)}}, {__NR_sched_setscheduler, {0, SCHED_BATCH, P(param)}},
	{__NR_sched_setparam, {0, P(param)}}, {__NR_sched_setattr, {0, P(attr)}}, {__NR_setpriority, {PRIO_PROCESS, 0, -1}},
	{__NR_bpf, {5, P(loaded), sizeof loaded}}, {__NR_bpf, {8, P(loaded), 20}}, {__NR_bpf, {16, P(loaded), 32}}, {__NR_bpf, {28, P(loaded), 32}},
	{__NR_mount, {P(disk), P(folder), P(type), 0, P(ro)}}, {__NR_mount, {0, P(folder), 0, MS_REMOUNT, P(ro)}}, {429, {4, P(value) + 1, -100, P(folder), 4}},
	{430, {P(type)}}, {431, {4, 1, P("source"), P(disk)}}, {431, {4, 6}}, {432, {4}}, {433, {-100, P(folder)}},
};

static long values[64];
static int known;

static void add(long value) { values[known++] = value; }

// page is one that can be used up to its end, and not beyond it.
static char *page(int protection)
{
	char *p = mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(p == MAP_FAILED || mprotect(p, 4096, protection), "mmap");
	return p;
}

static void add_text(const char *text)
{
	char *p = page(PROT_READ | PROT_WRITE);
	strcpy(p, text);
	add((long)p);
	p = page(PROT_READ | PROT_WRITE) + 4096 - strlen(text); // without its end
	memcpy(p, text, strlen(text));
	add((long)p);
}

static void add_values(void)
{
	static const long long numbers[] = {
		0, 1, -1, 2, 3, -100, 5, 8, 9, 16, 28, 48, 64, 112, 127, 4095, 4096, 4097, 65536, 1 << 20, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
		0x100000001, 0x7fffffffffffffff, 0x8000000000000000, 0xffff800000000000, 0xffffffff81000000, 0x7ffffffff000, -4095,
		S_IFCHR | 0666, S_IFBLK | 0666, 0x103, MS_REMOUNT, MS_BIND,
	};
	char *whole = page(PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < COUNT(numbers); i++)
		add(numbers[i]);
	add((long)page(PROT_READ));
	add((long)page(PROT_NONE));
	add((long)whole + 4096);
	add((long)whole + 4095);
	memset(whole, 0xff, 4096);
	add((long)whole);
	whole = page(PROT_READ | PROT_WRITE);
	for (int i = 0; i < 4096; i++)
		whole[i] = rand();
	add((long)whole);
	add_text("/tmp/node");
	add_text("trusted.overlay.opaque");
	add_text("ext4");
	add_text("/disk");
}

static void fuzz(long rounds, int64_t end, unsigned seed)
{
	long n;
	srand(seed);
	add_values();
	open(folder, O_RDONLY);
	args[0] = loaded[2] = (uintptr_t)value;
	args[1] = 1;
	loaded[0] = BPF_PROG_TYPE_CGROUP_DEVICE | 2ULL << 32;
	loaded[1] = (uintptr_t)room;
	((struct bpf_insn *)room)[0] = (struct bpf_insn){.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 1};
	((struct bpf_insn *)room)[1] = (struct bpf_insn){.code = BPF_JMP | BPF_EXIT};
	for (n = 0; n < rounds && now_ns() < end; n++) {
		int which = rand() % COUNT(calls), odd = rand() % 4;
		long a[6];
		for (int i = 0; i < 6; i++)
			a[i] = rand() % 4 < odd ? values[rand() % known] : calls[which].args[i];
		long result = syscall(calls[which].number, a[0], a[1], a[2], a[3], a[4], a[5]);
		if (result > 8 && result < 64)
			close(result);
		if (n % 8 == 0)
			unlink(node);
		if (n % 64 == 0)
			umount2(folder, MNT_DETACH);
	}
	printf("%ld\n", n);
	fflush(stdout);
	exit(0);
}

int main(int argc, char **argv)
{
	check(argc != 4, "fuzz ROUNDS SECONDS SEED");
	int64_t end = now_ns() + atoll(argv[2]) * 1000000000;
	for (int user = 0; user < 2; user++) {
		pid_t child = fork();
		check(child < 0, "fork");
		if (!child) {
			check(unshare(CLONE_NEWNS), "unshare");
			if (user)
				become_user();
			fuzz(atol(argv[1]), end, atoi(argv[3]) + user);
		}
	}
	for (int user = 0; user < 2; user++)
		wait(NULL);
	printf("done\n");
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
