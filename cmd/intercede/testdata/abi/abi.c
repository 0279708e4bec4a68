// Makes calls with arguments that the kernel refuses, by each number that the program's ABI has for them, and prints the errors.
// With "x32" it makes those of x32, which a 64-bit program can.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void try(const char *name, long number, long first, long second, long third)
{
	errno = 0;
	long result = syscall(number, first, second, third, 0, 0);
	printf("%s: %s\n", name, result < 0 ? strerrorname_np(errno) : "done");
}

int main(int argc, char **argv)
{
	long flag = argc > 1 && !strcmp(argv[1], "x32") ? 0x40000000 : 0;

	try("connect", SYS_connect | flag, -1, 0, 0);
	try("listen", SYS_listen | flag, -1, 0, 0);
	try("semget", SYS_semget | flag, 0, -1, 0);
	try("sethostname", SYS_sethostname | flag, 0, -1, 0);
	try("getsid", SYS_getsid | flag, -1, 0, 0);
#ifdef __i386__
	long connect[3] = {-1, 0, 0};
	try("socketcall connect", SYS_socketcall, 3, (long)connect, 0);
	try("socketcall accept", SYS_socketcall, 5, (long)connect, 0);
	try("socketcall listen", SYS_socketcall, 4, (long)connect, 0);
	try("socketcall socket", SYS_socketcall, 1, (long)connect, 0);
	try("ipc semget", SYS_ipc, 2, 0, -1);
	try("ipc semget, version 1", SYS_ipc, 0x10002, 0, -1);
	try("ipc shmget", SYS_ipc, 23, 0, 0);
#else
	try("accept", SYS_accept | flag, -1, 0, 0);
#endif
	return 0;
}
