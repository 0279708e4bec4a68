// Command interrupted makes device nodes, each once and under a new name, while a timer's signal comes all 0.3 ms. The
// handler is the Go runtime's, which has SA_RESTART. A node that is there already was made by the same call before.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	calls    = 5000
	interval = 300 * time.Microsecond
)

// The kernel gives the signals of a process's timer to its first thread, on which the main goroutine begins.
func init() { runtime.LockOSThread() }

func main() {
	every := unix.NsecToTimeval(interval.Nanoseconds())
	if _, err := unix.Setitimer(unix.ITIMER_REAL, unix.Itimerval{Interval: every, Value: every}); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	twice := 0
	for i := range calls {
		path := fmt.Sprintf("/tmp/node%d", i)
		err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))
		if errors.Is(err, unix.EEXIST) {
			twice++
		} else if err != nil {
			fmt.Println(path, err)
			os.Exit(1)
		}
		unix.Unlink(path)
	}
	fmt.Printf("%d calls, %d made twice\n", calls, twice)
}
