package ociruntime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// folders are where the real runtime is looked for by its name. PATH does not count: podman runs its runtime with one
// for some commands and without for others, and all are to reach the same program.
var folders = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// execRuntime becomes the runtime.
func execRuntime(runtime string, args []string) error {
	path, err := FindRuntime(runtime)
	if err != nil {
		return fmt.Errorf("the OCI runtime %q, which oci_runtime.runtime of the config or --runtime names: %w", runtime, err)
	}
	err = syscall.Exec(path, slices.Concat([]string{runtime}, args), os.Environ())
	return fmt.Errorf("executing the OCI runtime %s: %w", path, err)
}

// FindRuntime gives the path of the runtime, for a name or path that policy.CheckOCIRuntime accepts. It is never this
// program itself.
func FindRuntime(runtime string) (string, error) { return findRuntime(runtime, folders) }

func findRuntime(runtime string, folders []string) (string, error) {
	path, err := lookUp(runtime, folders)
	if err != nil {
		return "", err
	}
	found, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	own, err := os.Stat("/proc/self/exe")
	if err != nil {
		return "", err
	}
	if os.SameFile(found, own) {
		return "", fmt.Errorf("%s is intercede itself: name the runtime that it is to execute, such as runc", path)
	}
	return path, nil
}

func lookUp(runtime string, folders []string) (string, error) {
	if filepath.IsAbs(runtime) {
		return exec.LookPath(runtime)
	}
	for _, folder := range folders {
		path, err := exec.LookPath(filepath.Join(folder, runtime))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return path, err
		}
	}
	return "", fmt.Errorf("not installed in %s: install it, or give its path", strings.Join(folders, ", "))
}
