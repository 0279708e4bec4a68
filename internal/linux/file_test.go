package linux

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadRegular(t *testing.T) {
	requireNoLeak(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("12345"), 0o640); err != nil {
		t.Fatal(err)
	}
	text, info, err := ReadRegular(path, 5)
	if string(text) != "12345" || err != nil || info.Mode() != 0o640 {
		t.Errorf("got %q, %v", text, err)
	}
	if _, _, err := ReadRegular(path, 4); err == nil || !strings.Contains(err.Error(), "larger than 4 bytes") {
		t.Errorf("one byte too many: %v", err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo, "/dev/zero"} {
		if _, _, err := ReadRegular(path, 5); !errors.Is(err, ErrNotRegular) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, _, err := ReadRegular(filepath.Join(dir, "none"), 5); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	// The size that stat(2) gives of it is 0.
	if text, _, err := ReadRegular("/proc/self/status", 1<<20); len(text) == 0 || err != nil {
		t.Errorf("a file of procfs: %q, %v", text, err)
	}
}
