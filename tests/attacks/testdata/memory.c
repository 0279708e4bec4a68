// memory ROUNDS SECONDS: has sysinfo(2) and getxattr(2) write to memory that the caller could not write to itself, and checks that nothing is
// there. It prints a line for each that was, and "done" at the end.
#include "common.h"

#define FILE_SIZE 4096
#define FILLED 0x11

static char *page_of(int protection, int flags, int fd)
{
	char *p = mmap(NULL, 4096, protection, flags, fd, 0);
	check(p == MAP_FAILED, "mmap");
	return p;
}

// secret is a file that the caller may read only.
static int secret(void)
{
	char text[FILE_SIZE];
	memset(text, FILLED, sizeof text);
	int fd = open("/secret", O_RDWR | O_CREAT | O_TRUNC, 0644);
	check(fd < 0 || write(fd, text, sizeof text) != sizeof text || close(fd), "/secret");
	fd = open("/secret", O_RDONLY);
	check(fd < 0, "/secret");
	return fd;
}

static int is_filled(const char *p)
{
	for (int i = 0; i < FILE_SIZE; i++)
		if (p[i] != FILLED)
			return 0;
	return 1;
}

static int file_is_filled(void)
{
	char text[FILE_SIZE];
	int fd = open("/secret", O_RDONLY | O_CLOEXEC), filled;
	check(fd < 0, "/secret");
	filled = read(fd, text, sizeof text) == sizeof text && is_filled(text);
	close(fd);
	return filled;
}

static long information(char *at) { return syscall(__NR_sysinfo, at); }
static long attribute(char *at) { return syscall(__NR_getxattr, "/marked", "trusted.overlay.opaque", at, 8L); }

static const struct call {
	const char *name;
	long (*make)(char *);
} calls[] = {{"sysinfo", information}, {"getxattr", attribute}};

static void expect_fault(const struct call *call, const char *what, char *at)
{
	errno = 0;
	if (call->make(at) != -1 || errno != EFAULT)
		printf("%s into %s: %s, want EFAULT\n", call->name, what, strerror(errno));
}

// fixed has one kind of memory after the other.
static void fixed(const struct call *call, int fd)
{
	char *p = page_of(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	memset(p, FILLED, FILE_SIZE);
	check(mprotect(p, FILE_SIZE, PROT_READ), "mprotect");
	expect_fault(call, "read-only memory", p);
	if (!is_filled(p))
		printf("%s changed read-only memory\n", call->name);
	check(mprotect(p, FILE_SIZE, PROT_NONE), "mprotect");
	expect_fault(call, "PROT_NONE", p);
	check(mprotect(p, FILE_SIZE, PROT_READ), "mprotect");
	if (!is_filled(p))
		printf("%s changed PROT_NONE\n", call->name);
	check(munmap(p, FILE_SIZE), "munmap");
	expect_fault(call, "unmapped memory", p);

	for (int flags = MAP_SHARED; flags <= MAP_PRIVATE; flags++) {
		p = page_of(PROT_READ, flags, fd);
		expect_fault(call, flags == MAP_SHARED ? "a shared file" : "a private file", p);
		if (!is_filled(p) || !file_is_filled())
			printf("%s changed a file that is mapped %s\n", call->name, flags == MAP_SHARED ? "shared" : "private");
		munmap(p, FILE_SIZE);
	}

	// Across an end: the first part may be written, the second may not.
	p = mmap(NULL, 2 * FILE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(p == MAP_FAILED, "mmap");
	memset(p, FILLED, 2 * FILE_SIZE);
	check(mprotect(p + FILE_SIZE, FILE_SIZE, PROT_READ), "mprotect");
	if (call->make == information) {
		expect_fault(call, "the end of what may be written", p + FILE_SIZE - 16);
		if (!is_filled(p + FILE_SIZE))
			printf("%s changed memory beyond an end\n", call->name);
	}
	munmap(p, 2 * FILE_SIZE);

	static const char text[4096] __attribute__((aligned(4096))) = "constant";
	expect_fault(call, "the program's constants", (char *)text);
	expect_fault(call, "the program's code", (char *)expect_fault);
	expect_fault(call, "NULL", NULL);
	expect_fault(call, "the last page", (char *)-4096L);
	expect_fault(call, "an address of the kernel", (char *)(sizeof(long) == 8 ? 0xffffffff81000000 : 0xc0100000));
	expect_fault(call, "the first address of the kernel", (char *)(sizeof(long) == 8 ? 0x7ffffffff000 : 0xffffe000));
	if (sizeof(long) == 8)
		expect_fault(call, "an address that is none", (char *)0x8000000000000000);

	// That it is written at all.
	p = page_of(PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	memset(p, FILLED, FILE_SIZE);
	if (call->make(p) < 0 || is_filled(p))
		printf("%s into shared memory: %s\n", call->name, strerror(errno));
	munmap(p, FILE_SIZE);
	p = page_of(PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
	if (call->make(p) < 0 || is_filled(p) || !file_is_filled())
		printf("%s into a private copy of a file: %s\n", call->name, strerror(errno));
	munmap(p, FILE_SIZE);
}

static char *swapped; // one page, at a fixed place
static int secret_fd;
static volatile int over;

// swap has one mapping after the other in the place of the page, all the while.
static void *swap(void *unused)
{
	while (!over) {
		mmap(swapped, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		mmap(swapped, FILE_SIZE, PROT_READ, MAP_FIXED | MAP_SHARED, secret_fd, 0);
		mmap(swapped, FILE_SIZE, PROT_READ, MAP_FIXED | MAP_PRIVATE, secret_fd, 0);
		mmap(swapped, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		mprotect(swapped, FILE_SIZE, PROT_READ);
		mmap(swapped, FILE_SIZE, PROT_NONE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		munmap(swapped, FILE_SIZE);
	}
	return NULL;
}

static void exchanged(long rounds, int64_t end)
{
	pthread_t thread;
	long written = 0, refused = 0;
	swapped = page_of(PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	check(pthread_create(&thread, NULL, swap, NULL), "pthread_create");
	for (long i = 0; i < rounds && now_ns() < end; i++) {
		const struct call *call = &calls[i % 2];
		if (call->make(swapped) >= 0)
			written++;
		else if (errno == EFAULT)
			refused++;
		else
			printf("%s into memory that changes: %s\n", call->name, strerror(errno));
		if (!file_is_filled())
			printf("%s changed a file that may only be read\n", call->name);
	}
	over = 1;
	pthread_join(thread, NULL);
	printf("exchanged %ld %ld\n", written, refused);
}

int main(int argc, char **argv)
{
	check(argc != 3, "memory ROUNDS SECONDS");
	setvbuf(stdout, NULL, _IOLBF, 0); // what is found is said before its consequences
	check(mkdir("/marked", 0755) && errno != EEXIST, "/marked");
	check(setxattr("/marked", "trusted.overlay.opaque", "y", 1, 0), "setxattr");
	secret_fd = secret();
	for (int i = 0; i < 2; i++)
		fixed(&calls[i], secret_fd);
	exchanged(atol(argv[1]), now_ns() + atoll(argv[2]) * 1000000000);
	printf("done\n");
	return 0;
}
