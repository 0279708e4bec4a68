// Package sdktest tests plugins with fake calls, and with real containers beside real root.
//
// Serve puts a handler at the other end of a real lane and sends it fake calls: for what the handler decides. It needs no
// privilege.
//
// NewContainer makes a real container whose system calls are intercepted for the handler: for what the kernel does. The
// handler runs as in production: in a process of its own, with the user, the capabilities and the seccomp filter that the
// broker would give it, and calls go over lanes. So a capability that the manifest lacks fails the test. It needs root, a
// TestMain that gives Main the handler, and, for Container.Call, gcc. AsRoot and WithRealRoot run the same program as the
// host's own root, whose outcome is the one to reach; a Pair compares the two.
//
//	func TestMain(m *testing.M) { sdktest.Main(m, handler{}) }
//
//	func TestNull(t *testing.T) {
//		p := sdktest.NewPair(t, handler{})
//		p.Compare(t, "ok ok", "value", "umask 022", "sys mknod s:/dev/null S_IFCHR|0666 dev:1:3", "stat /dev/null")
//	}
//
// The caller is an attacker. Around, Hold, Swap and PluginDescriptor are for tests of what happens when it changes things
// meanwhile, is killed, or knows where the plugin is. A handler that shares something with its test is wrapped in InProcess.
//
// INTERCEDE_TEST_TRANSPORT=grpc has calls go over gRPC, as those of a plugin in another language. INTERCEDE_TEST_PROCESS=own
// serves every handler in the test's process, where a debugger and go test -cover reach it.
package sdktest
