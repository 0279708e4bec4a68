package linux

import (
	"os"
	"strconv"
	"testing"

	"github.com/intercede/intercede/internal/require"
)

// checkPriority checks that of all threads of this process.
func checkPriority(t *testing.T, want Priority) {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range threads {
		tid, _ := strconv.Atoi(entry.Name())
		if got, err := ThreadPriority(tid); err == nil && got != want {
			t.Errorf("thread %d has %+v, want %+v", tid, got, want)
		}
	}
}

func TestProcessPriority(t *testing.T) {
	require.Root(t)
	before, err := ThreadPriority(0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := SetProcessPriority(before); err != nil {
			t.Error(err)
		}
		checkPriority(t, before)
	}()
	for _, p := range []Priority{{Nice: -3}, {FIFO: 2}, {FIFO: 1}, {Nice: -1}} {
		if err := SetProcessPriority(p); err != nil {
			require.Lacking(t, "%v", err)
		}
		checkPriority(t, p)
		OnThread(func() { checkPriority(t, p) })
	}
}
