// Package run builds the unprivileged container of `intercede run`: a command in its own user, mount, pid, uts, ipc and
// cgroup namespaces (the network is the host's), on a root filesystem whose files it owns, under a seccomp filter whose
// listener is handed to the caller.
//
// [Start] re-executes the running binary as the container's first process, which sets the container up from the inside
// and then executes the command; so a program that uses this package calls [Init] first thing in main.
//
// The two processes share one socket. The caller sends the request (one JSON message, with the root filesystem as a
// detached mount); the init answers with the terminal's master, then with the listener, and closes the socket by its
// execve, or answers with what failed.
//
// # The window between filter and execve
//
// The init loads the filter on the thread that executes the command. Until the listener has reached the caller, nobody
// can answer a notification, so the few system calls made there must not be notified: [ReservedSyscalls]. Everything
// that can be done before the filter is loaded is done before.
//
// # Lifetime
//
// The container does not outlive its caller: its first process is killed (PR_SET_PDEATHSIG) when the thread that
// started it ends, which is why that thread is locked and waits for it. The first process can give this up by
// itself, through prctl(2) or by executing a set-user-ID program (prctl(2), PR_SET_PDEATHSIG).
package run
