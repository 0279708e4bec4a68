package broker

import (
	"testing"
	"time"

	"github.com/intercede/intercede/core/internal/testplugin"
	"golang.org/x/sys/unix"
)

// A container whose calls fail without end, and a plugin that says much, have a part of the log each: for every second
// that they had, and the one that had begun.
func TestLogIsBounded(t *testing.T) {
	seconds := func(since time.Time) int { return int(time.Since(since)/time.Second) + 2 }
	t.Run("failures", func(t *testing.T) {
		b := newBench(t, options{plugins: []string{"trial_errno"}})
		c, begin := b.attach(t), time.Now()
		for range 500 {
			want(t, ask(t, c, testplugin.Error), 0, unix.EIO)
		}
		if n, most := b.log.count("it did not work"), 10*seconds(begin); n == 0 || n > most {
			t.Errorf("%d lines, want 1 to %d", n, most)
		}
		eventually(t, "500 failures are counted", func() bool { return b.Status()[0].Failures == 500 })
	})
	t.Run("output", func(t *testing.T) {
		b := newBench(t, options{})
		c, begin := b.attach(t), time.Now()
		want(t, ask(t, c, testplugin.Shout, 8000), 0, 0)
		if n, most := b.log.count("xxxxxxxx"), 64*seconds(begin); n == 0 || n > most {
			t.Errorf("%d lines of 1000 bytes, want 1 to %d", n, most)
		}
	})
}
