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
// The indented lines of a case are commands of the caller, described at the top of testdata/caller.c, carried out in
// order in a new directory /tmp/CASE with umask 022. Spaces and tabs separate words, and any number of them is as good
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
//	on NAME                 a container that the Go test makes: see Scripts.On
//	for NAME VALUES         one case for each value; $NAME stands for it, also in the case's own name and options
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
