// place carries out sequences of calls, one after the other, and says what is there afterwards. It is process 1 of an
// intercepted container, and of the place of real root: the same program with the same files.
//
// A request is a line "run BITS WANTED N" and N lines, the commands of the caller (caller.c). WANTED has letters: d,
// the disk is to be as it was; c, a cgroup is wanted; x, the attributes of files are shown; or it is "-". The answer
// is what the caller printed, lines "tree ...", "mount ..." and "end STATUS SIGNAL", and last "ready", which is
// printed at the start too. A line "broken ..." says that the place cannot go on, "busy" that the disk is still in
// use.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define BASE "/t"          // it is made anew for each sequence
#define FOLDER "/t/s"      // the caller's working directory
#define DISK "/disk"       // a block device of this place alone
#define IMAGE "/disk.image"
#define CGROUPS "/cgroup"
#define SECONDS 120        // after which a caller is killed
#define MOST_COMMANDS 64

struct request {
	int bits;
	char wanted[16];
	int n;
	char *commands[MOST_COMMANDS + 2]; // the program's name before them
};

static void broken(const char *what)
{
	printf("broken %s: %s\n", what, strerror(errno));
	fflush(stdout);
	_exit(1);
}

static void must(long result, const char *what)
{
	if (result < 0)
		broken(what);
}

static int wants(const struct request *r, char letter) { return strchr(r->wanted, letter) != NULL; }

static void show_attributes(const char *path)
{
	char names[8192], value[4096];
	ssize_t size = llistxattr(path, names, sizeof(names));
	if (size < 0)
		printf(" xattr:%d", errno);
	for (char *name = names; size > 0 && name < names + size; name += strlen(name) + 1) {
		ssize_t n = lgetxattr(path, name, value, sizeof(value));
		printf(" %s=", name);
		if (n < 0)
			printf("%d", errno);
		for (ssize_t i = 0; i < n; i++)
			printf("%02x", (unsigned char)value[i]);
	}
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static void show_tree(const struct request *r, const char *path, int depth)
{
	struct stat st, disk;
	if (lstat(path, &st)) {
		printf("tree %s %d\n", path, errno);
		return;
	}
	printf("tree %s %o %u %u links %lu", path, st.st_mode, st.st_uid, st.st_gid, (unsigned long)st.st_nlink);
	if (S_ISBLK(st.st_mode) && !stat(DISK, &disk) && st.st_rdev == disk.st_rdev)
		printf(" disk"); // the places' have other numbers
	else if (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode))
		printf(" device %u:%u", major(st.st_rdev), minor(st.st_rdev));
	if (S_ISREG(st.st_mode))
		printf(" size %lld", (long long)st.st_size);
	if (S_ISLNK(st.st_mode)) {
		char target[256] = "";
		if (readlink(path, target, sizeof(target) - 1) >= 0)
			printf(" -> %s", target);
	}
	if (wants(r, 'x'))
		show_attributes(path);
	printf("\n");
	struct dirent **entries;
	int n = S_ISDIR(st.st_mode) && depth < 8 ? scandir(path, &entries, NULL, by_name) : 0;
	for (int i = 0; i < n; i++) {
		const char *name = entries[i]->d_name;
		char *below;
		if (!strcmp(name, ".") || !strcmp(name, ".."))
			continue;
		if (asprintf(&below, "%s/%s", path, name) < 0)
			broken("memory");
		show_tree(r, below, depth + 1);
		free(below);
	}
}

// show_mounts prints the lines of mountinfo (proc_pid_mountinfo(5)) that are about the sequence's folder.
static void show_mounts(void)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char line[8192];
	if (!file)
		broken("mountinfo");
	while (fgets(line, sizeof(line), file))
		if (strstr(line, " " BASE "/"))
			printf("mount %s", line);
	fclose(file);
}

// forget_contexts has the plugin forget what earlier sequences prepared by fsopen(2): it keeps the last 16 contexts,
// which may hold the disk. See plugins/mount/README.md, "16 contexts of a container are kept".
static void forget_contexts(void)
{
	for (int i = 0; i < 16; i++)
		close(syscall(SYS_fsopen, "ext4", 1));
}

// restore_disk writes the image to the disk. What held the disk has ended, but the kernel may end a mount a little
// later.
static void restore_disk(void)
{
	static char block[65536];
	int from = open(IMAGE, O_RDONLY | O_CLOEXEC), to = -1;
	must(from, IMAGE);
	for (int i = 0; i < 200 && (to = open(DISK, O_WRONLY | O_EXCL | O_CLOEXEC)) < 0 && errno == EBUSY; i++) {
		if (i == 4)
			forget_contexts();
		usleep(i < 4 ? 500 : 2000);
	}
	if (to < 0 && errno == EBUSY) {
		printf("busy\n");
		fflush(stdout);
		_exit(0);
	}
	must(to, DISK);
	for (ssize_t n; (n = read(from, block, sizeof(block)));) {
		must(n, IMAGE);
		if (write(to, block, n) != n)
			broken(DISK);
	}
	must(close(to), DISK);
	close(from);
}

static void make_cgroup(void)
{
	must(mount("none", CGROUPS, "cgroup2", 0, NULL), "mount cgroup2");
	rmdir(CGROUPS "/x/y");
	rmdir(CGROUPS "/x");
	must(mkdir(CGROUPS "/x", 0755), CGROUPS);
	must(mkdir(CGROUPS "/x/y", 0755), CGROUPS);
}

static void kill_all(int signal)
{
	(void)signal;
	kill(-1, SIGKILL); // all but this process and process 1
}

// execute becomes the caller, whose errors are printed too.
static void execute(struct request *r)
{
	int empty[2];
	must(pipe(empty), "pipe");
	must(dup2(empty[0], 0), "dup2");
	must(dup2(1, 2), "dup2");
	must(syscall(SYS_close_range, 3, ~0U, 0), "close_range");
	r->commands[0] = r->bits == 32 ? "/bin/caller32" : "/bin/caller";
	execv(r->commands[0], r->commands);
	broken(r->commands[0]);
}

// supervise carries out a sequence in a mount namespace of its own, and ends.
static void supervise(struct request *r)
{
	int status;
	must(unshare(CLONE_NEWNS), "unshare");
	must(mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL), "private mounts");
	umask(0);
	must(mkdir(BASE, 0755), BASE);
	must(mkdir(FOLDER, 0755), FOLDER);
	must(chdir(FOLDER), FOLDER);
	umask(022);
	if (wants(r, 'd'))
		restore_disk();
	if (wants(r, 'c'))
		make_cgroup();
	fflush(stdout);
	pid_t pid = fork();
	must(pid, "fork");
	if (!pid)
		execute(r);
	signal(SIGALRM, kill_all);
	alarm(SECONDS);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			broken("waitpid");
	alarm(0);
	kill_all(0);
	must(chdir("/"), "/");
	show_tree(r, BASE, 0);
	show_mounts();
	printf("end %d %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	fflush(stdout);
	_exit(0);
}

// remove_tree removes what a sequence left, in a namespace that has none of its mounts.
static void remove_tree(const char *path)
{
	struct dirent *entry;
	if (!unlink(path) || errno == ENOENT)
		return;
	DIR *dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		char *below;
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (asprintf(&below, "%s/%s", path, entry->d_name) < 0)
			broken("memory");
		remove_tree(below);
		free(below);
	}
	if (dir)
		closedir(dir);
	must(rmdir(path), path);
}

// recover makes this process as it was, whatever a sequence did to all processes of the user.
static void recover(void)
{
	must(setpriority(PRIO_PROCESS, 0, 0), "setpriority");
	must(syscall(SYS_ioprio_set, 1, 0, 0), "ioprio_set");
}

static void serve(struct request *r)
{
	recover();
	fflush(stdout);
	pid_t pid = fork();
	must(pid, "fork");
	if (!pid)
		supervise(r);
	waitpid(pid, NULL, 0);
	kill_all(0);
	while (waitpid(-1, NULL, 0) > 0)
		;
	remove_tree(BASE);
	printf("ready\n");
	fflush(stdout);
}

static char *line(void)
{
	char *text = NULL;
	size_t size = 0;
	ssize_t n = getline(&text, &size, stdin);
	if (n <= 0)
		exit(0);
	text[strcspn(text, "\n")] = 0;
	return text;
}

int main(void)
{
	if (getpid() != 1) {
		printf("broken: this is not process 1\n");
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		struct request r = {0};
		char *head = line();
		if (sscanf(head, "run %d %15s %d", &r.bits, r.wanted, &r.n) != 3 || r.n > MOST_COMMANDS)
			broken("the request");
		for (int i = 0; i < r.n; i++)
			r.commands[i + 1] = line();
		serve(&r);
		for (int i = 0; i < r.n; i++)
			free(r.commands[i + 1]);
		free(head);
	}
}
