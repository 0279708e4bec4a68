// Package sdktest tests plugins, in two ways.
//
// Serve puts a handler behind the real RPC and sends it fake calls: for what the handler decides. It needs no privilege.
//
// NewContainer makes a real container whose system calls are intercepted for the handler: for what the kernel does. It
// needs root, a TestMain that calls Main, and, for Container.Call, gcc. AsRoot and WithRealRoot run the same program as the
// host's own root, whose outcome is the one to reach; a Pair compares the two.
//
//	func TestMain(m *testing.M) { sdktest.Main(m) }
//
//	func TestNull(t *testing.T) {
//		p := sdktest.NewPair(t, newHandler())
//		p.Compare(t, "ok ok", "value", "umask 022", "sys mknod s:/dev/null S_IFCHR|0666 dev:1:3", "stat /dev/null")
//	}
//
// The caller is an attacker. Around, Hold, Swap and PluginDescriptor are for tests of what happens when it changes things
// meanwhile, is killed, or knows where the plugin is.
package sdktest
