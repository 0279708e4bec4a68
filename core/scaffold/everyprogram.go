package scaffold

// everyProgram are calls that a program makes whatever it does: by which it is loaded, has memory, prints and ends. A
// plugin that took all of them would keep the caller of its own test from beginning.
var everyProgram = []string{
	"arch_prctl", "brk", "close", "fstat", "futex", "getrandom", "mmap", "mprotect", "munmap", "newfstatat", "openat", "pread64",
	"prlimit64", "read", "rseq", "rt_sigaction", "rt_sigprocmask", "set_robust_list", "set_tid_address", "write",
	// Of 32-bit programs.
	"_llseek", "fstat64", "fstatat64", "mmap2", "set_thread_area", "ugetrlimit",
}

// everyPython are further ones, without which Python does not begin.
var everyPython = []string{"fcntl", "getcwd", "getdents64"}
