// Package sdktest tests plugins with fake calls, and with real containers beside real root.
//
// Serve puts a handler at the other end of a real lane and sends it fake calls: for what the handler decides. It needs
// no privilege.
//
// NewContainer makes a real container whose system calls are intercepted for the handler: for what the kernel does. The
// handler runs as in production: in a process of its own, with the user, the capabilities and the seccomp filter that
// the broker would give it, and calls go over lanes. So a capability that the manifest lacks fails the test. It needs
// root, a TestMain that gives Main the handler, and, for Container.Call, gcc. AsRoot and WithRealRoot run the same
// program as the host's own root, whose outcome is the one to reach.
//
//	func TestMain(m *testing.M) { sdktest.Main(m, handler{}) }
//
//	func TestScripts(t *testing.T) { sdktest.RunScripts(t, handler{}, "testdata", sdktest.Scripts{}) }
//
// # Scripts
//
// Tests that only make calls are scripts, files *.script. What needs Go code between its calls stays Go.
//
//	# Where the path of a new node may lead.
//	let null S_IFCHR|0666 dev:1:3
//
//	case dot-dot
//		mkdir d
//		chdir d
//		sys mknod s:../n $null      = ok value
//		sys mknod s:/tmp/no/n $null = ENOENT errno
//		stat ../n                   = ok
//
// The indented lines of a case are commands of the caller, described below, carried out in order in a new directory
// /tmp/CASE with umask 022. Spaces and tabs separate words, and any number of them is as good
// as one. Lines that begin with # are comments.
//
// After = stands what is expected: ok or the name of an error, and for a call that the plugin is asked about the Kind
// of its answer (value, errno, continue, addfd ...). No kind: the plugin must not be asked. The commands sys, stat and
// openfile need an expectation. All others must succeed and need one only if the plugin is asked: do mknod ... = ok
// value. The code of the answer's reason may follow the kind: = EPERM next device_not_listed. Commands for races
// (repeat, threads) and print are for Go tests.
//
// Each case runs twice: where its calls are intercepted, and as real root. Both must get the same errors, return values
// and buffers; see Scripts.Alike. A case has at least one command. Its options stand before the first:
//
//	compare unintercepted   the second container is unprivileged too and has no plugin: what is refused stays refused
//	compare nothing         no second container: the outcome has no counterpart
//	abi 32                  a caller of the machine's 32-bit architecture; 64 by default
//	setting KEY JSON        a setting of the plugin: setting devices ["c 1:3"]
//	kernel VERSION FEATURE  skipped on older kernels, which lack the feature: kernel 6.10 F_DUPFD_QUERY
//	on NAME                 a container that the Go test makes: see Scripts.On
//	for NAME VALUES         one case for each value; $NAME stands for it, also in the case's own name and options
//
// A line with a call that this kernel is too old for gets ENOSYS in both, whatever stands after =.
//
// Before the first case, and not indented, options hold for all cases of the file. There also stand:
//
//	let NAME WORDS          $NAME stands for these words in all further lines; $case stands for the name of the case
//	part NAME               a line NAME in a case stands for the indented lines that follow
//	before, after           each case begins, or ends, with the indented lines that follow
//	include FILE            lets, parts and options of a file in the same folder, which several scripts share
//
// A word with a backslash is read as a Go string: \xff, \n.
//
// # The caller
//
// The caller is a program that carries out commands in order. Container.Call gives it one command an argument, its
// words separated by single spaces. What a command prints is a Line.
//
//	sys NAME ARG...         make the call, and print what it returned, its error and its buffers
//	do NAME ARG...          make the call, which must succeed; print nothing
//	fd NAME ARG...          like do, and keep what it returns: @0 is the first such descriptor, @1 the second ...
//	open PATH FLAGS         short for: fd openat AT_FDCWD s:PATH FLAGS 0
//	repeat N                the next sys is made N times
//	threads N               the next sys is made by N threads at once
//	stat PATH               lstat(2); print mode, major, minor, uid, gid and error
//	openfile PATH FLAGS     open(2) and close(2); print the error
//	write PATH TEXT         make the file with this text
//	umask MODE, chdir DIR, chroot DIR, mkdir DIR
//	mount TYPE SRC DIR FLAGS DATA   - is an empty SRC or DATA
//	setuid ID, setgid ID
//	setgroups ID,ID,...     - is none
//	dropcap CAPABILITY      from the effective, permitted and inheritable set of the thread
//	unshare user            become root of a new user namespace in which nobody else is mapped
//	unshare mount           enter a new mount namespace
//	thread                  the rest on a second thread; the leader waits for it
//	leader-exits            the rest on a second thread; the leader exits
//	fork                    the rest in a child, whose exit status is the caller's
//	print TEXT              print TEXT as it is
//
// NAME is any system call by the name that the kernel has for it on the caller's architecture (syscalls(2)), or a
// number. Of those that arm64 lacks, chmod, chown, mkdir, mknod, open, rename, rmdir, symlink and unlink are made by
// their successors there, as C libraries do: mknodat with AT_FDCWD for mknod. A script for more than one architecture
// names no other call that one of them lacks. The calls of a 32-bit caller are those of its own table: stat64, _llseek.
//
// Up to six ARGs follow, the registers; those that are left out are 0:
//
//	N                       a number, decimal, 0x or 0; constants by name; several joined by |
//	dev:MAJOR:MINOR         a device number
//	@K                      a kept descriptor; @-1 is the last one
//	null, bad, protnone     NULL; the address 1; a page that may not be read
//	s:TEXT                  a string, in which %i is the number of this call among those of repeat and threads
//	long:N, longpath:N      a string of N bytes: a single name; "././././x", which is x
//	edge:TEXT               a string without its NUL at the end of the last page that may be read
//	buf:N, hex:DIGITS       N zero bytes; these bytes: both are in Line.Bufs after the call
//	struct:FIELD,...        a buffer; a field is SIZE=N, a number of 1, 2, 4 or 8 bytes, or p=ARG, a pointer of 8 bytes
//
// The constants are those of the flags that the project's own tests need (O_CREAT, S_IFCHR, MS_RDONLY, CAP_MKNOD,
// SCHED_FIFO): the caller says which one it does not know, and takes its number instead.
//
// # Attacks
//
// The caller is an attacker. Around, Hold, Swap and PluginDescriptor are for tests of what happens when it changes
// things meanwhile, is killed, or knows where the plugin is. A handler that shares something with its test is wrapped
// in InProcess.
//
// # Environment
//
// INTERCEDE_TEST_TRANSPORT=grpc has calls go over gRPC, as those of a plugin in another language.
// INTERCEDE_TEST_AGAIN=1 has each call of a container handled twice that may be repeated, the second time by a new
// session, as if the plugin died with the first answer: the caller is to see no difference. Tests of threads that
// race see one. INTERCEDE_TEST_PROCESS=own serves every handler in the test's process, where a debugger and go test
// -cover reach it.
package sdktest
