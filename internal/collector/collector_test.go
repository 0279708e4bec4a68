package collector

import (
	"os"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestTune has no page of the floor in memory, also where the heap was in use before.
func TestTune(t *testing.T) {
	used := make([]byte, 4*floorSize)
	for i := range used {
		used[i] = 1
	}
	used = nil
	runtime.GC()
	Tune()
	page := os.Getpagesize()
	resident := make([]byte, floorSize/page)
	begin, answer := uintptr(unsafe.Pointer(unsafe.SliceData(floor))), uintptr(unsafe.Pointer(unsafe.SliceData(resident)))
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, begin, floorSize, answer)
	if errno != 0 {
		t.Fatal(errno)
	}
	for i, r := range resident {
		if r&1 != 0 {
			t.Fatalf("page %d is in memory", i)
		}
	}
}
