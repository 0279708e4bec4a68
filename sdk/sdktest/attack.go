package sdktest

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// Swap exchanges two names of the host all the while, until the returned function is called, which returns when it is
// over.
func Swap(t testing.TB, a, b string) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
				t.Errorf("exchange %s and %s: %v", a, b, err)
				return
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}

// PluginDescriptor opens a directory in the test's process, which is the plugin's with InProcess, until the end of the
// test, under a number that no caller has a descriptor of: no path of a caller may lead to it.
func PluginDescriptor(t testing.TB, dir string) int {
	t.Helper()
	const number = 700
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("sdktest: open %s: %v", dir, err)
	}
	defer unix.Close(fd)
	if err := unix.Dup3(fd, number, unix.O_CLOEXEC); err != nil {
		t.Fatalf("sdktest: a descriptor of number %d: %v", number, err)
	}
	t.Cleanup(func() { unix.Close(number) })
	return number
}

// PluginDescriptors is how many descriptors the process of a handler has open that Main was given. It waits until that
// stays the same for 100 ms: a plugin closes some of them after its answer.
func PluginDescriptors(t testing.TB, h sdk.Handler) int {
	t.Helper()
	last, now := -1, pluginDescriptors(t, h)
	for now != last {
		time.Sleep(100 * time.Millisecond)
		last, now = now, pluginDescriptors(t, h)
	}
	return now
}

// AwaitPluginDescriptors waits until the process of a handler has no more descriptors open than it had before
// (PluginDescriptors). The test fails if that does not come within a minute.
func AwaitPluginDescriptors(t testing.TB, h sdk.Handler, before int) {
	t.Helper()
	now := pluginDescriptors(t, h)
	for end := time.Now().Add(time.Minute); now > before; now = pluginDescriptors(t, h) {
		if time.Now().After(end) {
			t.Fatalf("sdktest: the plugin had %d descriptors before, and has %d", before, now)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// pluginDescriptors counts those that are open now.
func pluginDescriptors(t testing.TB, h sdk.Handler) int {
	t.Helper()
	pid := os.Getpid()
	if os.Getenv(processEnv) != ownProcess {
		pid = pluginOf(t, h).pid
	}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatalf("sdktest: %v", err)
	}
	return len(entries)
}
