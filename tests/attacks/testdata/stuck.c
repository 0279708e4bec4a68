// stuck WHAT THREADS: serves a filesystem (FUSE) that never answers, and has THREADS threads make calls that wait for it. It prints "stuck"
// when all are in their calls, and ends with its input.
//
//	memory    the path lies in a page of a file of that filesystem
//	waited    likewise, and another process waits for the page already
//	folder    the path leads into a folder of that filesystem whose entries are not found
//	overlay   likewise, through an overlay
#include "common.h"
#include <linux/fuse.h>

#define PAGES 4096
#define HOLE "hole" // name of the folder whose entries are never found
enum { ROOT = 1, HOLE_ID, FILE_ID };

static int fuse;

static void reply(uint64_t unique, int error, const void *data, size_t size)
{
	char buffer[4096];
	struct fuse_out_header header = {sizeof header + size, error, unique};
	memcpy(buffer, &header, sizeof header);
	if (size)
		memcpy(buffer + sizeof header, data, size);
	if (write(fuse, buffer, sizeof header + size) < 0 && errno != ENOENT)
		perror("write to /fuse");
}

static struct fuse_attr attribute(uint64_t id)
{
	struct fuse_attr attr = {
		.ino = id, .mode = id == FILE_ID ? S_IFREG | 0644 : S_IFDIR | 0777, .nlink = 1, .size = id == FILE_ID ? PAGES * 4096L : 0, .blksize = 4096,
	};
	return attr;
}

static void look_up(struct fuse_in_header *in, const char *name)
{
	uint64_t id = in->nodeid != ROOT ? 0 : !strcmp(name, HOLE) ? HOLE_ID : !strcmp(name, "file") ? FILE_ID : 0;
	if (in->nodeid == HOLE_ID)
		return; // it is being looked for
	if (!id) {
		reply(in->unique, -ENOENT, NULL, 0);
		return;
	}
	struct fuse_entry_out entry = {.nodeid = id, .attr = attribute(id), .entry_valid = 3600, .attr_valid = 3600};
	reply(in->unique, 0, &entry, sizeof entry);
}

static void serve(void)
{
	static char buffer[1 << 17];
	struct fuse_in_header *in = (void *)buffer;
	while (read(fuse, buffer, sizeof buffer) > 0) {
		struct fuse_init_out init = {.major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = 65536, .max_background = 4096, .congestion_threshold = 4096};
		struct fuse_attr_out attr = {.attr_valid = 3600, .attr = attribute(in->nodeid)};
		struct fuse_open_out opened = {.fh = 1, .open_flags = FOPEN_KEEP_CACHE};
		struct fuse_statfs_out stat = {.st = {.bsize = 4096, .namelen = 255}};
		switch (in->opcode) {
		case FUSE_INIT: reply(in->unique, 0, &init, sizeof init); break;
		case FUSE_LOOKUP: look_up(in, buffer + sizeof *in); break;
		case FUSE_GETATTR: reply(in->unique, 0, &attr, sizeof attr); break;
		case FUSE_OPEN:
		case FUSE_OPENDIR: reply(in->unique, 0, &opened, sizeof opened); break;
		case FUSE_STATFS: reply(in->unique, 0, &stat, sizeof stat); break;
		case FUSE_READ: break; // for ever
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
		case FUSE_INTERRUPT: break;
		case FUSE_FLUSH:
		case FUSE_RELEASE:
		case FUSE_RELEASEDIR: reply(in->unique, 0, NULL, 0); break;
		default: reply(in->unique, -ENOSYS, NULL, 0);
		}
	}
}

// serve_fuse has a process of its own serve the filesystem, which alone has its descriptor: when that is killed all who wait for it are
// free. A thread of theirs would not end before they do.
static void serve_fuse(void)
{
	char options[128];
	fuse = open("/fuse", O_RDWR | O_CLOEXEC);
	check(fuse < 0, "/fuse");
	check(mkdir("/f", 0755), "/f");
	snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fuse);
	check(mount("fuse", "/f", "fuse", MS_NOSUID | MS_NODEV, options), "mount of FUSE");
	pid_t server = fork();
	check(server < 0, "fork");
	if (!server) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve();
		_exit(0);
	}
	close(fuse);
}

static char *pages;
static int waited, overlay;
static long entered;

static void *call(void *number)
{
	long n = (long)number;
	char path[64];
	struct timespec wait = {0, 100000000};
	snprintf(path, sizeof path, overlay ? "/m/" HOLE "/n%ld" : "/f/" HOLE "/n%ld", n);
	if (waited && !fork()) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)*(volatile char *)(pages + n * 4096); // waits for the page
		_exit(0);
	}
	if (waited)
		nanosleep(&wait, NULL);
	__atomic_fetch_add(&entered, 1, __ATOMIC_RELAXED);
	for (;;)
		mknod(pages ? pages + n * 4096 : path, S_IFCHR | 0666, makedev(1, 3));
	return NULL;
}

int main(int argc, char **argv)
{
	check(argc != 3, "stuck WHAT THREADS");
	int n = atoi(argv[2]);
	serve_fuse();
	waited = !strcmp(argv[1], "waited");
	overlay = !strcmp(argv[1], "overlay");
	if (waited || !strcmp(argv[1], "memory")) {
		int file = open("/f/file", O_RDONLY);
		check(file < 0, "/f/file");
		pages = mmap(NULL, PAGES * 4096L, PROT_READ, MAP_SHARED, file, 0);
		check(pages == MAP_FAILED, "mmap");
	}
	if (overlay) {
		check(mkdir("/m", 0755) || mkdir("/up", 0755) || mount("tmpfs", "/up", "tmpfs", 0, NULL), "/up");
		check(mkdir("/up/upper", 0755) || mkdir("/up/work", 0755), "/up");
		check(mount("overlay", "/m", "overlay", 0, "lowerdir=/f,upperdir=/up/upper,workdir=/up/work,userxattr"), "mount of the overlay");
	}
	for (long i = 0; i < n; i++) {
		pthread_t thread;
		check(pthread_create(&thread, NULL, call, (void *)i), "pthread_create");
	}
	while (__atomic_load_n(&entered, __ATOMIC_RELAXED) < n)
		sleep_ns(10000000);
	printf("stuck\n");
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
