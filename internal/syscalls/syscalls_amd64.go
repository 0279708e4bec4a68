package syscalls

import "golang.org/x/sys/unix"

var numbersHere = map[string]uint32{"iopl": unix.SYS_IOPL, "ioperm": unix.SYS_IOPERM, "modify_ldt": unix.SYS_MODIFY_LDT}
