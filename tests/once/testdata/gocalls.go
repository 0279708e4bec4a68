// Gocalls CALLS SECONDS PERIOD makes nodes as testdata/calls.c does, in goroutines beside one that keeps the garbage
// collector busy. If PERIOD is not 0 each thread of the process gets SIGURG every so many ns. It prints the same.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const goroutines = 4

var (
	calls, wrong, signals atomic.Int64
	first                 atomic.Pointer[string]
)

func main() {
	most, seconds, period := number(1), number(2), number(3)
	if err := os.Mkdir("/nodes", 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		panic(err)
	}
	var over atomic.Bool
	time.AfterFunc(time.Duration(seconds)*time.Second, func() { over.Store(true) })
	go waste()
	if period > 0 {
		go tick(time.Duration(period))
	}
	var working sync.WaitGroup
	for g := range goroutines {
		working.Go(func() {
			makeNode(g, 0)
			for i := 1; calls.Load() < most && !over.Load(); i++ {
				makeNode(g, i)
			}
		})
	}
	working.Wait()
	text := "-"
	if p := first.Load(); p != nil {
		text = *p
	}
	fmt.Println(calls.Load(), wrong.Load(), signals.Load(), text)
}

func number(i int) int64 {
	n, err := strconv.ParseInt(os.Args[i], 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

var garbage []byte

func waste() {
	for {
		garbage = make([]byte, 64<<10)
		runtime.Gosched()
	}
}

// tick sends SIGURG, by which the Go runtime preempts goroutines, to every thread.
func tick(period time.Duration) {
	for range time.Tick(period) {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			panic(err)
		}
		for _, thread := range threads {
			tid, _ := strconv.Atoi(thread.Name())
			syscall.Syscall(syscall.SYS_TGKILL, uintptr(os.Getpid()), uintptr(tid), uintptr(syscall.SIGURG))
			signals.Add(1)
		}
	}
}

func makeNode(g, i int) {
	if i%2 == 0 {
		i = 0
	}
	path := fmt.Sprintf("/nodes/%d-%d", g, i)
	calls.Add(1)
	if err := syscall.Mknod(path, syscall.S_IFCHR|0o666, 1<<8|3); err != nil {
		isWrong("mknod: %v", err)
	}
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFCHR {
		isWrong("mknod: no node: %v, mode %#o", err, st.Mode)
	}
	if err := syscall.Unlink(path); err != nil {
		isWrong("unlink: %v", err)
	}
}

func isWrong(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	wrong.Add(1)
	first.CompareAndSwap(nil, &text)
}
