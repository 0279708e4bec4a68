package capture

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const page = 4096

// pages maps three pages that begin with x, with these protections, and one that is not mapped after them.
func pages(t *testing.T, flags, fd int, protections ...int) unsafe.Pointer {
	t.Helper()
	memory, err := unix.MmapPtr(fd, 0, nil, uintptr(len(protections)+1)*page, unix.PROT_READ, flags)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.MunmapPtr(memory, uintptr(len(protections))*page) })
	for i, protection := range protections {
		data := unsafe.Slice((*byte)(unsafe.Add(memory, i*page)), page)
		if flags&unix.MAP_ANONYMOUS != 0 {
			if err := unix.Mprotect(data, unix.PROT_READ|unix.PROT_WRITE); err != nil {
				t.Fatal(err)
			}
			data[0] = 'x'
		}
		if err := unix.Mprotect(data, protection); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.MunmapPtr(unsafe.Add(memory, len(protections)*page), page); err != nil {
		t.Fatal(err)
	}
	return memory
}

func addressOf(memory unsafe.Pointer) uint64 { return uint64(uintptr(memory)) }

type validity bool

func (v validity) Valid() bool { return bool(v) }

// TestWriteBack writes where the owner could write, and nowhere else.
func TestWriteBack(t *testing.T) {
	const read, write = unix.PROT_READ, unix.PROT_READ | unix.PROT_WRITE
	anonymous := unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	data := bytes.Repeat([]byte("y"), 100)
	for name, test := range map[string]struct {
		protections []int
		at          uint64
		want        unix.Errno
	}{
		"a page":               {[]int{write}, 0, 0},
		"its end":              {[]int{write}, page - 100, 0},
		"beyond its end":       {[]int{write}, page - 99, unix.EFAULT},
		"two mappings":         {[]int{write, write | unix.PROT_EXEC}, page - 50, 0},
		"into a read-only one": {[]int{write, read}, page - 50, unix.EFAULT},
		"a read-only one":      {[]int{read}, 0, unix.EFAULT},
		"none":                 {[]int{unix.PROT_NONE}, 0, unix.EFAULT},
		"not mapped":           {[]int{write}, page, unix.EFAULT},
	} {
		t.Run(name, func(t *testing.T) {
			first := pages(t, anonymous, -1, test.protections...)
			at := unsafe.Add(first, test.at)
			address := addressOf(at)
			memory, errno := OpenMemory(os.Getpid())
			if errno != 0 {
				t.Fatal(errno)
			}
			defer memory.Close()
			if got := memory.isListedWritable(address, address+100); got != (test.want == 0) {
				t.Errorf("by the text of maps: writable %v", got)
			}
			if got := WriteBack(os.Getpid(), []written{{address, data}}, validity(true)); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
			if test.want == 0 && !bytes.Equal(unsafe.Slice((*byte)(at), 100), data) {
				t.Error("something else is there")
			}
			if test.protections[0] == read && *(*byte)(first) != 'x' {
				t.Error("a read-only page was changed")
			}
		})
	}
	for name, address := range map[string]uint64{"NULL": 0, "the kernel": 1 << 63, "the last": ^uint64(0) - 10} {
		if got := WriteBack(os.Getpid(), []written{{address, data}}, validity(true)); got != unix.EFAULT {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestWriteBackFile has mappings of a file that may not be written: neither they nor the file change.
func TestWriteBackFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, bytes.Repeat([]byte("x"), page), 0o400); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, flags := range map[string]int{"shared": unix.MAP_SHARED, "private": unix.MAP_PRIVATE} {
		memory := pages(t, flags, int(file.Fd()), unix.PROT_READ)
		if got := WriteBack(os.Getpid(), []written{{addressOf(memory), []byte("y")}}, validity(true)); got != unix.EFAULT {
			t.Errorf("%s: %v", name, got)
		}
		if text, err := os.ReadFile(path); err != nil || text[0] != 'x' {
			t.Errorf("%s: the file begins with %q, %v", name, text[0], err)
		}
	}
}

// TestWriteBackGone writes nothing for a thread that does not wait any more, or is not there.
func TestWriteBackGone(t *testing.T) {
	memory := pages(t, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, -1, unix.PROT_READ|unix.PROT_WRITE)
	writes := []written{{addressOf(memory), []byte("y")}}
	if got := WriteBack(os.Getpid(), writes, validity(false)); got != unix.ESRCH {
		t.Errorf("it waits no more: %v", got)
	}
	if got := WriteBack(1<<30, writes, validity(true)); got != unix.ESRCH {
		t.Errorf("it is not there: %v", got)
	}
	if *(*byte)(memory) != 'x' {
		t.Error("it was written")
	}
	if got := WriteBack[written](1<<30, nil, validity(true)); got != 0 {
		t.Errorf("nothing to write: %v", got)
	}
}

// written is memory to be written.
type written struct {
	address uint64
	data    []byte
}

func (w written) GetAddress() uint64 { return w.address }
func (w written) GetData() []byte    { return w.data }
