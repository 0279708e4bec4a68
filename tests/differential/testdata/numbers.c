// numbers prints the name and the number of every system call of the architecture that it is compiled for.
#include <stdio.h>
#include "../../../sdk/sdktest/testdata/zsyscalls.h"

int main(void)
{
#define NR(name, number) printf("%s %d\n", name, number);
	SYSCALLS(NR)
	return 0;
}
