package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { sdktest.Main(m, plugin) }

// notModule is on the list, and refused by every kernel: no module is ever loaded by a test.
const notModule = "not-a-module"

func TestModules(t *testing.T) {
	sum := sha256.Sum256([]byte(notModule))
	c := sdktest.NewContainer(t, plugin, sdktest.WithSettings(map[string]any{"allowed": []string{hex.EncodeToString(sum[:])}}))
	kernel := kernelSays(t)
	for name, test := range map[string]struct {
		script []string
		want   string // of the last call
		kind   string
	}{
		"allowed, refused by the kernel": {[]string{"write /tmp/m " + notModule, "open /tmp/m O_RDONLY", "sys finit_module @0 s: 0"}, kernel, "errno"},
		"with a descriptor for both":     {[]string{"write /tmp/m " + notModule, "open /tmp/m O_RDWR", "sys finit_module @0 s: 0"}, kernel, "errno"},
		"compressed":                     {[]string{"write /tmp/m " + notModule, "open /tmp/m O_RDONLY", "sys finit_module @0 s: 4"}, "", "errno"},
		"another file":                   {[]string{"write /tmp/m other", "open /tmp/m O_RDONLY", "sys finit_module @0 s: 0"}, "EPERM", "errno"},
		"an empty file":                  {[]string{"write /tmp/m ", "open /tmp/m O_RDONLY", "sys finit_module @0 s: 0"}, "EPERM", "errno"},
		"parameters":                     {[]string{"write /tmp/m " + notModule, "open /tmp/m O_RDONLY", "sys finit_module @0 s:a=1 0"}, "EPERM", "errno"},
		"flags":                          {[]string{"write /tmp/m " + notModule, "open /tmp/m O_RDONLY", "sys finit_module @0 s: 1"}, "", "next"},
		"bad parameters":                 {[]string{"write /tmp/m " + notModule, "open /tmp/m O_RDONLY", "sys finit_module @0 bad 0"}, "EFAULT", "errno"},
		"no descriptor":                  {[]string{"sys finit_module 99 s: 0"}, "EBADF", "errno"},
		"only to write":                  {[]string{"write /tmp/m " + notModule, "open /tmp/m O_WRONLY", "sys finit_module @0 s: 0"}, "EBADF", "errno"},
		"a path":                         {[]string{"write /tmp/m " + notModule, "open /tmp/m O_PATH", "sys finit_module @0 s: 0"}, "EBADF", "errno"},
		"a folder":                       {[]string{"open /tmp O_RDONLY", "sys finit_module @0 s: 0"}, "EINVAL", "errno"},
		"a FIFO":                         {[]string{"do mknodat AT_FDCWD s:/tmp/f S_IFIFO|0600 0", "open /tmp/f O_RDWR", "sys finit_module @0 s: 0"}, "EINVAL", "errno"},
		"without the capability":         {[]string{"write /tmp/m " + notModule, "open /tmp/m O_RDONLY", "dropcap 16", "sys finit_module @0 s: 0"}, "", "next"},
		"in a nested user namespace":     {[]string{"write /tmp/m " + notModule, "open /tmp/m O_RDONLY", "unshare user", "sys finit_module @0 s: 0"}, "", "next"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, left := range []string{"m", "f"} {
				os.Remove(filepath.Join(c.Rootfs(), "tmp", left))
			}
			result := c.Call(t, test.script...)
			lines := result.Lines(t)
			got := sdktest.Errnos(lines[len(lines)-1:])
			if test.want != "" && got != test.want || got == "ok" || result.Kinds() != test.kind {
				t.Errorf("%s (%s), want %s (%s)", got, result.Kinds(), test.want, test.kind)
			}
		})
	}
}

// kernelSays is what this kernel has for a file that is not a module: ENOEXEC, or ENOSYS where it has no modules.
func kernelSays(t *testing.T) string {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(notModule); err != nil {
		t.Fatal(err)
	}
	file.Close()
	reopened, err := os.Open(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer reopened.Close()
	errno, ok := unix.FinitModule(int(reopened.Fd()), "", 0).(unix.Errno)
	if !ok {
		t.Fatal("the kernel loads what is not a module")
	}
	return unix.ErrnoName(errno)
}
