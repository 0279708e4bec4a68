// Package sdktest tests plugins, in two ways.
//
// Serve puts a handler behind the real RPC and sends it fake calls: for what the handler decides. It needs no privilege.
//
// NewContainer makes a real container whose system calls are intercepted for the handler: for what the kernel does. It
// needs root, a TestMain that calls Main, and, for Container.Call, gcc. AsRoot and WithRealRoot run the same program as the
// host's own root, whose outcome is the one to reach.
//
//	func TestMain(m *testing.M) { sdktest.Main(m) }
//
//	func TestNull(t *testing.T) {
//		script := []string{"umask 022", "sys mknod s:/dev/null S_IFCHR|0666 dev:1:3", "stat /dev/null"}
//		got := sdktest.NewContainer(t, newHandler()).Call(t, script...)
//		want := sdktest.AsRoot(t, sdktest.Caller(t), script...)
//		if got.Stdout != want.Stdout {
//			t.Errorf("got %s, real root gets %s", got.Stdout, want.Stdout)
//		}
//	}
package sdktest
