package broker

import (
	"os"
	"runtime"
	"testing"
)

// usage is what a process can leak.
type usage struct{ descriptors, goroutines, children int }

func resources() usage {
	descriptors, _ := os.ReadDir("/proc/self/fd")
	return usage{len(descriptors), runtime.NumGoroutine(), children()}
}

// children are those of all threads.
func children() int {
	n := 0
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, task := range tasks {
		text, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		for _, c := range text {
			if c == ' ' {
				n++
			}
		}
	}
	return n
}

// within reports whether there is not more of anything than there was.
func (u usage) within(before usage) bool {
	return u.descriptors <= before.descriptors && u.goroutines <= before.goroutines && u.children <= before.children
}

func (u usage) report(t testing.TB, before usage) {
	t.Helper()
	if u.within(before) {
		return
	}
	stacks := make([]byte, 1<<20)
	t.Logf("before %+v, now %+v\n%s", before, u, stacks[:runtime.Stack(stacks, true)])
}
