// caller makes the system calls that its arguments say, to test how they are intercepted. Each argument is a command, its
// words separated by single spaces; they are carried out in order. What a command prints is one JSON object on a line.
// The commands are described in the package comment of sdktest, "The caller" (doc.go). zsyscalls.h stands before this.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

struct name {
	const char *name;
	long long value;
};

// SYSCALLS has every call of the architecture: see zsyscalls.h.
static const struct name syscalls[] = {
#define NR(name, number) {name, number},
	SYSCALLS(NR)
};

static const struct name constants[] = {
#define C(x) {#x, x},
	C(AT_FDCWD) C(AT_EMPTY_PATH) C(AT_SYMLINK_NOFOLLOW) C(AT_REMOVEDIR)
	C(S_IFCHR) C(S_IFBLK) C(S_IFIFO) C(S_IFREG) C(S_IFSOCK) C(S_IFDIR)
	C(O_RDONLY) C(O_WRONLY) C(O_RDWR) C(O_CREAT) C(O_EXCL) C(O_PATH) C(O_DIRECTORY) C(O_CLOEXEC) C(O_NOFOLLOW) C(O_NONBLOCK)
	C(MS_RDONLY) C(MS_NOSUID) C(MS_NODEV) C(MS_NOEXEC) C(MS_BIND) C(MS_REC) C(MS_REMOUNT) C(MS_MOVE) C(MS_PRIVATE)
	C(MS_SLAVE) C(MS_SHARED) C(MS_SILENT) C(MS_NOATIME) C(MS_RELATIME) C(MS_MGC_VAL) C(MNT_DETACH)
	C(XATTR_CREATE) C(XATTR_REPLACE) C(F_GETFD) C(F_GETFL) C(S_ISUID) C(S_ISGID) C(S_ISVTX)
	C(CLONE_FS) C(CLONE_NEWPID)
	C(PR_SET_SECUREBITS) C(SECBIT_NO_SETUID_FIXUP)
	C(CAP_DAC_OVERRIDE) C(CAP_DAC_READ_SEARCH) C(CAP_FOWNER) C(CAP_FSETID) C(CAP_SYS_PTRACE) C(CAP_SYS_ADMIN) C(CAP_SYS_NICE)
	C(CAP_MKNOD)
	C(SCHED_OTHER) C(SCHED_FIFO) C(SCHED_RR) C(SCHED_BATCH) C(SCHED_IDLE) C(SCHED_DEADLINE) C(SCHED_RESET_ON_FORK)
	C(SCHED_FLAG_RESET_ON_FORK) C(SCHED_FLAG_RECLAIM) C(SCHED_FLAG_DL_OVERRUN) C(SCHED_FLAG_KEEP_POLICY)
	C(SCHED_FLAG_KEEP_PARAMS) C(SCHED_FLAG_KEEP_ALL) C(SCHED_FLAG_UTIL_CLAMP) C(PRIO_PROCESS) C(PRIO_PGRP) C(PRIO_USER)
};

#define MAX_ARGS 6
#define MAX_BUFS 16
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

// buffers are those of one call that are printed after it.
struct buffers {
	int n;
	struct {
		unsigned char *data;
		size_t size;
	} buf[MAX_BUFS];
};

static int kept[16], nkept;

static char **script_begin, **script_now;

static void die(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fprintf(stderr, "caller: command %d: ", (int)(script_now - script_begin) + 1);
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	exit(2);
}

static void check(long long result, const char *what)
{
	if (result < 0)
		die("%s: %s", what, strerror(errno));
}

static void *get(size_t size)
{
	void *p = calloc(1, size ? size : 1);
	if (!p)
		die("out of memory");
	return p;
}

static const struct name *find(const struct name *table, size_t n, const char *word)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(table[i].name, word))
			return &table[i];
	return NULL;
}

// number reads a number: several terms joined by |.
static long long number(const char *text)
{
	long long value = 0;
	char *copy = strdup(text), *rest = copy, *term;
	while ((term = strsep(&rest, "|"))) {
		const struct name *c = find(constants, COUNT(constants), term);
		char *end;
		long long n = c ? c->value : (long long)(term[0] == '-' ? strtoll(term, &end, 0) : (long long)strtoull(term, &end, 0));
		if (!c && (end == term || *end))
			die("%s: no number and no constant known here", term);
		value |= n;
	}
	free(copy);
	return value;
}

static long syscall_number(const char *word)
{
	const struct name *s = find(syscalls, COUNT(syscalls), word);
	return s ? s->value : number(word);
}

// successors are the calls by which C libraries make those that arm64 lacks. $1 is the first argument.
#define SUCCESSOR_WORDS 6
static const char *const successors[][1 + SUCCESSOR_WORDS] = {
	{"chmod", "fchmodat", "AT_FDCWD", "$1", "$2"},
	{"chown", "fchownat", "AT_FDCWD", "$1", "$2", "$3"},
	{"mkdir", "mkdirat", "AT_FDCWD", "$1", "$2"},
	{"mknod", "mknodat", "AT_FDCWD", "$1", "$2", "$3"},
	{"open", "openat", "AT_FDCWD", "$1", "$2", "$3"},
	{"rename", "renameat", "AT_FDCWD", "$1", "AT_FDCWD", "$2"},
	{"rmdir", "unlinkat", "AT_FDCWD", "$1", "AT_REMOVEDIR"},
	{"symlink", "symlinkat", "$1", "AT_FDCWD", "$2"},
	{"unlink", "unlinkat", "AT_FDCWD", "$1"},
};

// known replaces a call that the architecture lacks by its successor.
static char **known(char **words)
{
	size_t n = 0;
	if (find(syscalls, COUNT(syscalls), words[0]))
		return words;
	while (words[n])
		n++;
	for (size_t i = 0; i < COUNT(successors); i++) {
		const char *const *with = successors[i];
		if (strcmp(with[0], words[0]))
			continue;
		char **call = get((SUCCESSOR_WORDS + 1) * sizeof *call);
		for (size_t k = 0; k < SUCCESSOR_WORDS && with[k + 1]; k++) {
			size_t argument = with[k + 1][0] == '$' ? with[k + 1][1] - '0' : 0;
			call[k] = !argument ? (char *)with[k + 1] : argument < n ? words[argument] : "0";
		}
		return call;
	}
	return words;
}

// page maps a page with another behind it that may not be touched.
static char *page(int protection)
{
	long size = sysconf(_SC_PAGESIZE);
	char *p = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || mprotect(p, size, protection))
		die("mmap: %s", strerror(errno));
	return p;
}

// text copies a string with %i replaced.
static char *text(const char *word, int index)
{
	char *copy = get(strlen(word) + 12);
	const char *mark = strstr(word, "%i");
	if (!mark)
		return strcpy(copy, word);
	sprintf(copy, "%.*s%d%s", (int)(mark - word), word, index, mark + 2);
	return copy;
}

static char *long_text(size_t n, int path)
{
	char *s = get(n + 1);
	for (size_t i = 0; i < n; i++)
		s[i] = path ? (i + 1 == n ? 'x' : (n - i) % 2 ? '.' : '/') : 'a';
	// An even length leaves a slash in front: one more dot would not, so begin with two.
	if (path && n > 1 && s[0] == '/')
		s[0] = '.', s[1] = '/';
	return s;
}

static unsigned char *buffer(struct buffers *b, size_t size)
{
	if (b->n == MAX_BUFS)
		die("more than %d buffers", MAX_BUFS);
	b->buf[b->n].size = size;
	return b->buf[b->n++].data = get(size);
}

static unsigned char *hex(struct buffers *b, const char *digits)
{
	size_t n = strlen(digits) / 2;
	unsigned char *data = buffer(b, n);
	for (size_t i = 0; i < n; i++)
		if (sscanf(digits + 2 * i, "%2hhx", &data[i]) != 1)
			die("hex:%s: want pairs of hexadecimal digits", digits);
	return data;
}

static long argument(const char *word, int index, struct buffers *b);

static unsigned char *structure(struct buffers *b, const char *fields, int index)
{
	unsigned char *data = buffer(b, 512);
	size_t *used = &b->buf[b->n - 1].size, size;
	char *copy = strdup(fields), *rest = copy, *field;
	*used = 0;
	while ((field = strsep(&rest, ","))) {
		char *value = strchr(field, '=');
		if (!value)
			die("struct field %s: want SIZE=N or p=ARG", field);
		*value++ = 0;
		// The machine is little-endian: the low bytes come first.
		unsigned long long n = *field == 'p' ? (unsigned long)argument(value, index, b) : (unsigned long long)number(value);
		size = *field == 'p' ? 8 : atoi(field);
		if (size > 8 || *used + size > 512)
			die("struct field %s: too large", field);
		memcpy(data + *used, &n, size);
		*used += size;
	}
	free(copy);
	return data;
}

static int prefix(const char *word, const char *start, const char **rest)
{
	size_t n = strlen(start);
	*rest = word + n;
	return !strncmp(word, start, n);
}

static long argument(const char *word, int index, struct buffers *b)
{
	const char *rest;
	unsigned major, minor;
	if (*word == '@') {
		int k = atoi(word + 1);
		if (k < 0)
			k += nkept;
		if (k < 0 || k >= nkept)
			die("%s: no descriptor kept", word);
		return kept[k];
	}
	if (!strcmp(word, "null"))
		return 0;
	if (!strcmp(word, "bad"))
		return 1;
	if (!strcmp(word, "protnone"))
		return (long)page(PROT_NONE);
	if (sscanf(word, "dev:%u:%u", &major, &minor) == 2)
		return (minor & 0xff) | (major << 8) | ((minor & ~0xffu) << 12);
	if (prefix(word, "s:", &rest))
		return (long)text(rest, index);
	if (prefix(word, "long:", &rest))
		return (long)long_text(atoi(rest), 0);
	if (prefix(word, "longpath:", &rest))
		return (long)long_text(atoi(rest), 1);
	if (prefix(word, "edge:", &rest))
		return (long)memcpy(page(PROT_READ | PROT_WRITE) + sysconf(_SC_PAGESIZE) - strlen(rest), rest, strlen(rest));
	if (prefix(word, "buf:", &rest))
		return (long)buffer(b, number(rest));
	if (prefix(word, "hex:", &rest))
		return (long)hex(b, rest);
	if (prefix(word, "struct:", &rest))
		return (long)structure(b, rest, index);
	return (long)number(word);
}

// call is one sys, do or fd, made by one thread.
struct call {
	char **words; // NAME ARG...
	int first, times;
};

static long make(char **words, int index, struct buffers *b)
{
	words = known(words);
	long nr = syscall_number(words[0]), args[MAX_ARGS] = {0};
	for (int i = 0; words[i + 1]; i++) {
		if (i == MAX_ARGS)
			die("%s: more than %d arguments", words[0], MAX_ARGS);
		args[i] = argument(words[i + 1], index, b);
	}
	return syscall(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
}

// print_line writes at once, so that threads do not mix their lines.
static void print_line(const char *line, size_t n)
{
	if (write(1, line, n) != (ssize_t)n)
		die("write: %s", strerror(errno));
}

static void print_result(long ret, int error, struct buffers *b)
{
	size_t size = 128;
	for (int i = 0; i < b->n; i++)
		size += 2 * b->buf[i].size + 4;
	char *line = get(size), *p = line;
	p += sprintf(p, "{\"op\":\"sys\",\"ret\":%ld,\"errno\":%d,\"bufs\":[", ret, ret == -1 ? error : 0);
	for (int i = 0; i < b->n; i++) {
		p += sprintf(p, "%s\"", i ? "," : "");
		for (size_t k = 0; k < b->buf[i].size; k++)
			p += sprintf(p, "%02x", b->buf[i].data[k]);
		p += sprintf(p, "\"");
	}
	p += sprintf(p, "]}\n");
	print_line(line, p - line);
	free(line);
}

static void *run_calls(void *arg)
{
	struct call *c = arg;
	for (int i = 0; i < c->times; i++) {
		struct buffers b = {0};
		long ret = make(c->words, c->first + i, &b);
		print_result(ret, errno, &b);
	}
	return NULL;
}

static void sys(char **words, int times, int threads)
{
	pthread_t thread[threads];
	struct call call[threads];
	for (int i = 0; i < threads; i++)
		call[i] = (struct call){words, i * times, times};
	if (threads == 1) {
		run_calls(&call[0]);
		return;
	}
	for (int i = 0; i < threads; i++)
		if (pthread_create(&thread[i], NULL, run_calls, &call[i]))
			die("pthread_create");
	for (int i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
}

static long must(char **words)
{
	struct buffers b = {0};
	long ret = make(words, 0, &b);
	check(ret, words[0]);
	return ret;
}

static void print_stat(const char *path)
{
	struct stat st = {0};
	char line[256];
	int error = lstat(path, &st) ? errno : 0;
	print_line(line, sprintf(line, "{\"op\":\"stat\",\"errno\":%d,\"mode\":%u,\"major\":%u,\"minor\":%u,\"uid\":%u,\"gid\":%u}\n",
		error, st.st_mode, major(st.st_rdev), minor(st.st_rdev), st.st_uid, st.st_gid));
}

static void print_open(const char *path, int flags)
{
	char line[64];
	int fd = open(path, flags, 0666), error = fd < 0 ? errno : 0;
	if (fd >= 0)
		close(fd);
	print_line(line, sprintf(line, "{\"op\":\"openfile\",\"errno\":%d}\n", error));
}

static void write_file(const char *path, const char *content)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	check(fd, path);
	check(write(fd, content, strlen(content)), path);
	close(fd);
}

static void set_groups(char *list)
{
	gid_t groups[64];
	char *g;
	size_t n = 0;
	while (strcmp(list, "-") && (g = strsep(&list, ",")) && n < COUNT(groups)) {
		groups[n++] = number(g);
		if (!list)
			break;
	}
	check(setgroups(n, groups), "setgroups");
}

static void drop_capability(int c)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2];
	check(syscall(__NR_capget, &header, data), "capget");
	data[c / 32].effective &= ~(1u << c % 32);
	data[c / 32].permitted &= ~(1u << c % 32);
	data[c / 32].inheritable &= ~(1u << c % 32);
	check(syscall(__NR_capset, &header, data), "capset");
}

static void unshare_user(void)
{
	char map[32];
	uid_t uid = geteuid();
	gid_t gid = getegid();
	check(unshare(CLONE_NEWUSER), "unshare user");
	write_file("/proc/self/setgroups", "deny");
	sprintf(map, "0 %u 1", uid);
	write_file("/proc/self/uid_map", map);
	sprintf(map, "0 %u 1", gid);
	write_file("/proc/self/gid_map", map);
}

static char *dash(char *word) { return strcmp(word, "-") ? word : ""; }

static void run(char **script);

static void *run_rest(void *script)
{
	run(script);
	exit(0);
}

static void on_thread(char **rest, int leader_exits)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, run_rest, rest))
		die("pthread_create");
	if (leader_exits)
		syscall(__NR_exit, 0);
	pthread_join(thread, NULL);
}

static void in_child(char **rest)
{
	int status;
	pid_t pid = fork();
	check(pid, "fork");
	if (!pid)
		run_rest(rest);
	check(waitpid(pid, &status, 0), "waitpid");
	exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

// split cuts a command at its spaces.
static char **split(const char *command, int *n)
{
	char **words = get(16 * sizeof(*words)), *rest = strdup(command);
	for (*n = 0; rest && *n < 15; (*n)++)
		words[*n] = strsep(&rest, " ");
	if (rest)
		die("%s: too many words", command);
	return words;
}

static void run(char **script)
{
	int times = 1, threads = 1, n;
	for (; *script; script++) {
		script_now = script;
		char **w = split(*script, &n);
#define IS(name, words) (!strcmp(w[0], name) && n >= (words))
		if (IS("sys", 2)) {
			sys(w + 1, times, threads);
			times = threads = 1;
		} else if (IS("do", 2)) {
			must(w + 1);
		} else if (IS("fd", 2) && nkept < (int)COUNT(kept)) {
			long fd = must(w + 1);
			kept[nkept++] = fd;
		} else if (IS("open", 3) && nkept < (int)COUNT(kept)) {
			check(kept[nkept++] = open(w[1], number(w[2])), *script);
		} else if (IS("repeat", 2)) {
			times = number(w[1]);
		} else if (IS("threads", 2)) {
			threads = number(w[1]);
		} else if (IS("stat", 2)) {
			print_stat(w[1]);
		} else if (IS("openfile", 3)) {
			print_open(w[1], number(w[2]));
		} else if (IS("write", 3)) {
			write_file(w[1], w[2]);
		} else if (IS("print", 2)) {
			print_line(*script + 6, strlen(*script + 6));
		} else if (IS("umask", 2)) {
			umask(strtol(w[1], NULL, 8));
		} else if (IS("chdir", 2)) {
			check(chdir(w[1]), *script);
		} else if (IS("chroot", 2)) {
			check(chroot(w[1]), *script);
		} else if (IS("mkdir", 2)) {
			check(mkdir(w[1], 0777), *script);
		} else if (IS("mount", 6)) {
			check(mount(dash(w[2]), w[3], w[1], number(w[4]), dash(w[5])), *script);
		} else if (IS("setuid", 2)) {
			check(setuid(number(w[1])), *script);
		} else if (IS("setgid", 2)) {
			check(setgid(number(w[1])), *script);
		} else if (IS("setgroups", 2)) {
			set_groups(w[1]);
		} else if (IS("dropcap", 2)) {
			drop_capability(number(w[1]));
		} else if (IS("unshare", 2) && !strcmp(w[1], "user")) {
			unshare_user();
		} else if (IS("unshare", 2) && !strcmp(w[1], "mount")) {
			check(unshare(CLONE_NEWNS), *script);
		} else if (IS("thread", 1)) {
			on_thread(script + 1, 0);
		} else if (IS("leader-exits", 1)) {
			on_thread(script + 1, 1);
		} else if (IS("fork", 1)) {
			in_child(script + 1);
		} else {
			die("%s: no such command, or too few words", *script);
		}
	}
}

int main(int argc, char **argv)
{
	script_begin = argv + 1;
	run(script_begin);
	return 0;
}
