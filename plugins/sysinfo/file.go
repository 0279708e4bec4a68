package sysinfo

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// file is a small file of procfs or of a cgroup, whose text the kernel makes at each read from its start. One that is
// read often is kept open, if it is there. A cgroup that is gone gives ENOENT or, where its file was kept, ENODEV.
type file struct {
	dir, name string // apart, since a container's cgroup has several
	fd        int    // -1: not kept
}

func makeFile(dir, name string) file { return file{dir: dir, name: name, fd: -1} }

func newFile(dir, name string) *file {
	f := makeFile(dir, name)
	return &f
}

func (f *file) path() string { return f.dir + "/" + f.name }

// keptFiles counts the files that are kept open, for all containers.
var keptFiles atomic.Int64

// maxKeptFiles leaves half of the descriptors to everything else.
var maxKeptFiles = sync.OnceValue(func() int64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return int64(min(limit.Cur, 1<<20) / 2)
})

// keep opens the file until close. Where that fails, each read opens it.
func (f *file) keep() {
	if f.fd >= 0 {
		return
	}
	if keptFiles.Add(1) > maxKeptFiles() {
		keptFiles.Add(-1)
		return
	}
	fd, err := f.open()
	if err != nil {
		keptFiles.Add(-1)
		return
	}
	f.fd = fd
}

func (f *file) close() {
	if f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
		keptFiles.Add(-1)
	}
}

func (f *file) open() (int, error) {
	fd, err := unix.Open(f.path(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: f.path(), Err: err}
	}
	return fd, nil
}

// read reads the file into buf, as far as it goes, and returns the part that it filled.
func (f *file) read(buf []byte) ([]byte, error) {
	fd := f.fd
	if fd < 0 {
		var err error
		if fd, err = f.open(); err != nil {
			return nil, err
		}
		defer unix.Close(fd)
	}
	n, err := unix.Pread(fd, buf, 0)
	if err != nil {
		return nil, &os.PathError{Op: "read", Path: f.path(), Err: err}
	}
	return buf[:n], nil
}

// readAll reads a file that the kernel may give in several pieces, at most limit bytes of it.
func (f *file) readAll(limit int) ([]byte, error) {
	fd, err := f.open()
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	text := make([]byte, 0, 4<<10)
	for len(text) < limit {
		text = slices.Grow(text, 1<<10)
		n, err := unix.Read(fd, text[len(text):min(cap(text), limit)])
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: f.path(), Err: err}
		}
		if n == 0 {
			break
		}
		text = text[:len(text)+n]
	}
	return text, nil
}

// readAmount reads a file that holds one number, or "max".
func (f *file) readAmount() (uint64, error) {
	var buf [32]byte
	text, err := f.read(buf[:])
	if err != nil {
		return 0, err
	}
	return parseAmount(text)
}

// parseAmount parses a number as cgroup files have it; "max" is unlimited.
func parseAmount(text []byte) (uint64, error) {
	word := string(bytes.TrimSpace(text))
	if word == "max" {
		return unlimited, nil
	}
	n, err := strconv.ParseUint(word, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no amount: %w", word, err)
	}
	return n, nil
}
