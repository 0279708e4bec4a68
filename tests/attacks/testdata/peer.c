// peer WHAT SOCKET COUNT SECONDS: talks to the socket for OCI runtimes as a user of the host.
//
//	attach    makes COUNT containers, one after the other, each a process in a user namespace of its own that makes one sysinfo(2); prints
//	          how many of these were answered, and how many were not
//	processes makes COUNT such processes without a socket, to compare with
//	hold      makes COUNT containers that stay, each of which calls sysinfo(2) again and again; prints how many were answered, how many wait
//	          for their first answer, and how many got an error
//	garbage   sends COUNT messages that are wrong in every way
//	silent    opens COUNT connections, sends nothing, prints "silent" and waits for the end of its input
#include "common.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#ifdef __x86_64__
#define ARCH AUDIT_ARCH_X86_64
#else
#define ARCH AUDIT_ARCH_I386
#endif

static const char *path;

static int dial(void)
{
	struct sockaddr_un address = {AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check(fd < 0, "socket");
	snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	if (connect(fd, (struct sockaddr *)&address, sizeof address)) {
		close(fd);
		return -1;
	}
	return fd;
}

static void send_fds(int to, const void *data, size_t size, const int *fds, int n)
{
	char control[CMSG_SPACE(sizeof(int) * 64)] = {0};
	struct iovec vector = {(void *)data, size};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
	if (n) {
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * n);
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int) * n);
		memcpy(CMSG_DATA(header), fds, sizeof(int) * n);
	}
	sendmsg(to, &message, MSG_NOSIGNAL);
}

static int listener(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 0, 2),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_sysinfo, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
	};
	struct sock_fprog program = {sizeof code / sizeof *code, code};
	check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	int fd = syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
	check(fd < 0, "seccomp");
	return fd;
}

static int state(char *text, size_t size, const char *id, long pid)
{
	return snprintf(text, size,
		"{\"ociVersion\":\"1.0.2\",\"fds\":[\"seccompFd\"],\"pid\":%ld,\"metadata\":\"\","
		"\"state\":{\"ociVersion\":\"1.0.2\",\"id\":\"%s\",\"status\":\"creating\",\"pid\":%ld,\"bundle\":\"/b\"}}", pid, id, pid);
}

static void write_file(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CLOEXEC);
	check(fd < 0 || write(fd, text, strlen(text)) < 0, name);
	close(fd);
}

static void enter_namespace(void)
{
	char map[64];
	uid_t user = getuid(), group = getgid();
	check(unshare(CLONE_NEWUSER), "unshare");
	write_file("/proc/self/setgroups", "deny");
	snprintf(map, sizeof map, "0 %u 1", user);
	write_file("/proc/self/uid_map", map);
	snprintf(map, sizeof map, "0 %u 1", group);
	write_file("/proc/self/gid_map", map);
}

// attach is one container. It exits with 0 if its call was answered.
static void attach(long number)
{
	char text[1024], id[32];
	struct sysinfo info;
	snprintf(id, sizeof id, "peer-%ld", number);
	int to = dial();
	if (to < 0)
		_exit(2);
	int fd = listener(), n = state(text, sizeof text, id, getpid());
	send_fds(to, text, n, &fd, 1);
	close(fd);
	alarm(30);
	_exit(sysinfo(&info) ? 3 : 0);
}

// plain is what an attached container does beside that.
static void plain(long unused)
{
	struct sysinfo info;
	_exit(sysinfo(&info) ? 3 : 0);
}

static pid_t start(void (*run)(long), long number)
{
	pid_t child = fork();
	check(child < 0, "fork");
	if (child)
		return child;
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	enter_namespace();
	run(number);
	_exit(1);
}

static int succeeds(void (*run)(long), long number)
{
	int status;
	pid_t child = start(run, number);
	check(waitpid(child, &status, 0) != child, "waitpid");
	return !status;
}

static struct {
	long answered, failed;
} *held;

// stay is one container that stays.
static void stay(long number)
{
	char text[1024], id[32];
	struct sysinfo info;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(id, sizeof id, "held-%ld", number);
	int to = dial();
	if (to < 0)
		_exit(2);
	int fd = listener(), n = state(text, sizeof text, id, getpid());
	send_fds(to, text, n, &fd, 1);
	close(fd);
	for (;; sleep_ns(50000000))
		sysinfo(&info) ? held[number].failed++ : held[number].answered++;
}

static void hold(long count, int64_t end)
{
	long answered = 0, waiting = 0, failed = 0;
	held = mmap(NULL, count * sizeof *held, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(held == MAP_FAILED, "mmap");
	for (long i = 0; i < count; i++)
		start(stay, i);
	sleep_ns(end - now_ns());
	for (long i = 0; i < count; i++)
		held[i].failed ? failed++ : held[i].answered ? answered++ : waiting++;
	printf("%ld %ld %ld\n", answered, waiting, failed);
	exit(0);
}

static unsigned seed = 1;

static size_t garbage(char *text, size_t size, long number)
{
	size_t n = state(text, size, "garbage", number % 3 ? 1 : getppid());
	switch (number % 8) {
	case 0: // noise
		for (n = 0; n < 512; n++)
			text[n] = rand_r(&seed);
		return n;
	case 1: // an end too soon
		return rand_r(&seed) % n;
	case 2: // changed bytes
		for (int i = 0; i < 8; i++)
			text[rand_r(&seed) % n] = rand_r(&seed);
		return n;
	case 3: // deep
		memset(text, '[', size);
		return size;
	case 4: // a string without an end
		memset(text, 'a', size);
		text[0] = '"';
		return size;
	case 5: // numbers of every size
		return snprintf(text, size, "{\"fds\":[\"seccompFd\"],\"pid\":%s,\"state\":{\"id\":\"x\",\"pid\":%s}}",
			(char *[]){"-1", "0", "1e400", "99999999999999999999"}[rand_r(&seed) % 4], (char *[]){"-1", "1.5", "\"1\"", "null"}[rand_r(&seed) % 4]);
	case 6: // more than one
		memcpy(text + n, text, n);
		return 2 * n;
	}
	return n; // right, but for its descriptors
}

static void send_garbage(long number)
{
	static char text[1 << 16];
	int to = dial(), fds[64], n = rand_r(&seed) % 4 ? rand_r(&seed) % 3 : 64;
	if (to < 0)
		return;
	for (int i = 0; i < n; i++)
		fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	send_fds(to, text, garbage(text, sizeof text, number), fds, n);
	for (int i = 0; i < n; i++)
		close(fds[i]);
	close(to);
}

int main(int argc, char **argv)
{
	check(argc != 5, "peer WHAT SOCKET COUNT SECONDS");
	const char *what = argv[1];
	path = argv[2];
	long count = atol(argv[3]), done = 0, failed = 0;
	int64_t end = now_ns() + atoll(argv[4]) * 1000000000;
	if (!strcmp(what, "attach"))
		for (long i = 0; i < count && now_ns() < end; i++)
			succeeds(attach, i) ? done++ : failed++;
	if (!strcmp(what, "processes"))
		for (long i = 0; i < count && now_ns() < end; i++)
			succeeds(plain, i) ? done++ : failed++;
	if (!strcmp(what, "hold"))
		hold(count, end);
	if (!strcmp(what, "garbage"))
		for (; done < count && now_ns() < end; done++)
			send_garbage(done);
	if (!strcmp(what, "silent")) {
		for (; done < count; done++)
			dial();
		printf("silent\n");
		fflush(stdout);
		while (getchar() != EOF)
			;
	}
	printf("%ld %ld\n", done, failed);
	return 0;
}
