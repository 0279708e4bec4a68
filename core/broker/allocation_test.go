package broker

import (
	"os"
	"runtime"
	"testing"

	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/core/metrics"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// A notification that goes over a lane allocates nothing in the broker but what generated code makes for the kind of
// the response, of a few bytes.
func TestAllocations(t *testing.T) {
	if os.Getenv("INTERCEDE_TEST_TRANSPORT") == "grpc" {
		return // which allocates for each message
	}
	for name, storm := range map[string]func(c *testcaller.Caller){
		"registers": func(c *testcaller.Caller) { c.Storm(1, unix.SYS_GETPPID, op(testplugin.Return, 7)...) },
		"a path":    func(c *testcaller.Caller) { c.Storm(1, unix.SYS_CHDIR, c.Map(t).Page) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, options{})
			b.Broker.Close() // it logs each call
			broker, err := New(Config{Generation: b.newGeneration(options{}), Log: zerolog.Nop(), Calls: metrics.New("test").Calls()})
			if err != nil {
				t.Fatal(err)
			}
			b.Broker = broker
			storm(b.attach(t))
			attached := broker.attachmentsOf(func(string) bool { return true })[0]
			calls := attached.calls.Load
			eventually(t, "the container calls", func() bool { return calls() > 100 })
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			first := calls()
			for calls() <= first+5000 { // on a slow machine that takes long
				now := calls()
				eventually(t, "the container calls on", func() bool { return calls() > now })
			}
			runtime.ReadMemStats(&after)
			each := float64(after.Mallocs-before.Mallocs) / float64(calls()-first)
			bytes := float64(after.TotalAlloc-before.TotalAlloc) / float64(calls()-first)
			t.Logf("%.2f allocations of together %.0f bytes for a call", each, bytes)
			if each > 1.5 || bytes > 64 {
				t.Error("that is more than a response's kind")
			}
		})
	}
}
