// calls makes calls that end in different ways, again and again, until its input ends. It prints a line after the first
// round.
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <unistd.h>

int main(void)
{
	struct pollfd input = {0, POLLIN, 0};
	struct sysinfo info;
	for (int round = 0; poll(&input, 1, 20) == 0; round++) {
		mknod("/null", S_IFCHR | 0666, makedev(1, 3));
		mknod("/null", S_IFCHR | 0666, makedev(1, 3)); /* EEXIST */
		unlink("/null");
		mknod("/mem", S_IFCHR | 0666, makedev(1, 1)); /* EPERM, by the kernel */
		sysinfo(&info);
		if (round == 0) {
			puts("ready");
			fflush(stdout);
		}
	}
	return 0;
}
