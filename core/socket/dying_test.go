package socket

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// The holder of a lock is found, and a living one keeps it.
func TestHolderOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	lock, err := acquireLock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.release()
	if pid, err := holderOf(lock.info); err != nil || pid != os.Getpid() {
		t.Errorf("the holder is %d, %v: want this process, %d", pid, err, os.Getpid())
	}
	if _, err := acquireLock(path); !errors.Is(err, ErrInUse) {
		t.Errorf("a second lock: %v, want ErrInUse", err)
	}
	if isDying("/proc/self") {
		t.Error("this process is dying, it says")
	}
}

func TestIsDying(t *testing.T) {
	const hung = "Name:\tx\nState:\tD (disk sleep)\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000100\n"
	const zombie = "Name:\tx\nState:\tZ (zombie)\nSigPnd:\t0000000000000000\n"
	const alive = "Name:\tx\nState:\tD (disk sleep)\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n"
	for name, test := range map[string]struct {
		threads []string
		want    bool
	}{
		"gone":      {nil, false},
		"hangs":     {[]string{zombie, hung}, true},
		"one lives": {[]string{zombie, alive}, false},
		"zombie":    {[]string{zombie}, true},
	} {
		proc := t.TempDir()
		for i, status := range test.threads {
			folder := filepath.Join(proc, "task", string(rune('1'+i)))
			if err := errors.Join(os.MkdirAll(folder, 0o755), os.WriteFile(filepath.Join(folder, "status"), []byte(status), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		if got := isDying(proc); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
