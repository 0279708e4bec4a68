package linux_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unsafe"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// pages maps two pages of 'a', then one that may not be touched, and gives the address of the last.
func pages(t *testing.T) (memory []byte, end uint64) {
	t.Helper()
	size := os.Getpagesize()
	memory, err := unix.Mmap(-1, 0, 3*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(memory) })
	for i := range memory {
		memory[i] = 'a'
	}
	if err := unix.Mprotect(memory[2*size:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return memory, uint64(uintptr(unsafe.Pointer(&memory[0]))) + uint64(2*size)
}

func TestReadMemory(t *testing.T) {
	_, end := pages(t)
	for name, test := range map[string]struct {
		address uint64
		n       int
		want    unix.Errno
	}{
		"up to the edge":      {end - 4, 4, 0},
		"across two pages":    {end - uint64(os.Getpagesize()) - 3, 6, 0},
		"over the edge":       {end - 4, 5, unix.EFAULT},
		"pages over the edge": {end - 4, 3 * os.Getpagesize(), unix.EFAULT},
		"PROT_NONE":           {end, 1, unix.EFAULT},
		"null":                {0, 1, unix.EFAULT},
		"nothing":             {0, 0, 0},
		"kernel":              {0xffff800000000000, 8, unix.EFAULT},
		"wraps":               {^uint64(0) - 3, 8, unix.EFAULT},
	} {
		t.Run(name, func(t *testing.T) {
			buf := make([]byte, test.n)
			errno := linux.ReadMemory(os.Getpid(), test.address, buf)
			if errno != test.want {
				t.Errorf("got %v, want %v", errno, test.want)
			}
			if errno == 0 && !bytes.Equal(buf, bytes.Repeat([]byte{'a'}, test.n)) {
				t.Errorf("read %q", buf)
			}
		})
	}
}

func TestAppendString(t *testing.T) {
	memory, end := pages(t)
	size := os.Getpagesize()
	for name, test := range map[string]struct {
		nul   int // where the NUL is, from the end of what may be read
		start int
		max   int
		want  int // length
		errno unix.Errno
	}{
		"in the page":              {nul: -1, start: -4, max: 4096, want: 3},
		"empty":                    {nul: -1, start: -1, max: 4096, want: 0},
		"across two pages":         {nul: -1, start: -size - 2, max: 2 * size, want: size + 1},
		"NUL first of the page":    {nul: -size, start: -size - 3, max: 4096, want: 3},
		"longer than a chunk":      {nul: -1, start: -600, max: 4096, want: 599},
		"just short enough":        {nul: -10, start: -20, max: 11, want: 10},
		"just too long":            {nul: -10, start: -20, max: 10, errno: unix.ENAMETOOLONG},
		"too long before the edge": {start: -20, max: 20, errno: unix.ENAMETOOLONG},
		"no NUL before the edge":   {start: -20, max: 21, errno: unix.EFAULT},
		"PROT_NONE":                {start: 0, max: 4096, errno: unix.EFAULT},
		"no room":                  {nul: -1, start: -1, max: 0, errno: unix.ENAMETOOLONG},
	} {
		t.Run(name, func(t *testing.T) {
			if test.nul != 0 {
				memory[2*size+test.nul] = 0
				defer func() { memory[2*size+test.nul] = 'a' }()
			}
			got, errno := linux.AppendString([]byte("before "), os.Getpid(), end+uint64(test.start), test.max)
			if errno != test.errno || string(got) != "before "+strings.Repeat("a", test.want) {
				t.Errorf("got %d bytes, %v; want %d, %v", len(got), errno, test.want, test.errno)
			}
		})
	}
}

func TestWriteMemory(t *testing.T) {
	memory, end := pages(t)
	if errno := linux.WriteMemory(os.Getpid(), end-2, []byte("bc")); errno != 0 {
		t.Error(errno)
	}
	if got := string(memory[2*os.Getpagesize()-3 : 2*os.Getpagesize()]); got != "abc" {
		t.Errorf("wrote %q", got)
	}
	for name, address := range map[string]uint64{"over the edge": end - 1, "PROT_NONE": end, "null": 0} {
		if errno := linux.WriteMemory(os.Getpid(), address, []byte("bc")); errno != unix.EFAULT {
			t.Errorf("%s: %v", name, errno)
		}
	}
	if errno := linux.WriteMemory(os.Getpid(), 0, nil); errno != 0 {
		t.Errorf("nothing: %v", errno)
	}
}

func TestMemoryOfNobody(t *testing.T) {
	tid := deadTID(t)
	if errno := linux.ReadMemory(tid, 4096, make([]byte, 1)); errno != unix.ESRCH {
		t.Errorf("read: %v", errno)
	}
	if _, errno := linux.AppendString(nil, tid, 4096, 1); errno != unix.ESRCH {
		t.Errorf("read string: %v", errno)
	}
	if errno := linux.WriteMemory(tid, 4096, []byte{1}); errno != unix.ESRCH {
		t.Errorf("write: %v", errno)
	}
}

// deadTID is the ID of a process that is gone.
func deadTID(t *testing.T) int {
	t.Helper()
	child := exec.Command("/bin/true")
	if err := child.Run(); err != nil {
		t.Fatal(err)
	}
	return child.Process.Pid
}
