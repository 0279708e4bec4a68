package sdktest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"testing"
)

// makeRootfs makes a tree for a container whose root is the host's id.
func makeRootfs(t testing.TB, id int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sdktest")
	if err != nil {
		t.Fatalf("sdktest: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("sdktest: %v", err)
		}
	})
	for _, d := range []struct {
		name string
		mode os.FileMode
	}{{".", 0o755}, {"bin", 0o755}, {"dev", 0o755}, {"mnt", 0o755}, {"proc", 0o755}, {"root", 0o700}, {"tmp", 0o777 | os.ModeSticky}} {
		if err := makeDir(filepath.Join(dir, d.name), d.mode, id); err != nil {
			t.Fatalf("sdktest: %v", err)
		}
	}
	return dir
}

// makeDir makes a directory of this mode, whatever the umask, and owner. One that is there is changed.
func makeDir(name string, mode os.FileMode, id int) error {
	if err := os.MkdirAll(name, mode); err != nil {
		return err
	}
	if err := os.Chmod(name, mode); err != nil {
		return err
	}
	return os.Chown(name, id, id)
}

// Install copies a program of the host, linked statically, into the container's /bin, and returns its path there.
func (c *Container) Install(t testing.TB, program string) string {
	t.Helper()
	name := path.Join("/bin", filepath.Base(program))
	if err := copyProgram(program, filepath.Join(c.rootfs, name)); err != nil {
		t.Fatalf("sdktest: install %s: %v", program, err)
	}
	return name
}

// InstallFromHost copies a program of the host, found in PATH, into the container's /bin, and the libraries that it
// needs to where they are on the host. It returns the program's path in the container. The test is skipped if there
// is no such program, or fails if INTERCEDE_TEST_STRICT=1.
func (c *Container) InstallFromHost(t testing.TB, name string) string {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		Lacking(t, "needs %s: %v", name, err)
	}
	libraries, _ := exec.Command("ldd", program).Output() // it fails for a program that is linked statically
	for _, library := range regexp.MustCompile(`/\S+`).FindAllString(string(libraries), -1) {
		if err := copyProgram(library, filepath.Join(c.rootfs, library)); err != nil {
			t.Fatalf("sdktest: install %s: %v", library, err)
		}
	}
	return c.Install(t, program)
}

// copyProgram puts the copy in place at once: one that is being executed cannot be written.
func copyProgram(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	copied, err := os.CreateTemp(filepath.Dir(to), ".install")
	if err != nil {
		return err
	}
	defer copied.Close()
	if _, err := io.Copy(copied, source); err != nil {
		return err
	}
	if err := copied.Chmod(0o755); err != nil {
		return err
	}
	if err := copied.Close(); err != nil {
		return fmt.Errorf("close %s: %w", copied.Name(), err)
	}
	return os.Rename(copied.Name(), to)
}
