package run

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exit statuses of a command that could not be executed, as podman-run(1) and sh give them.
const (
	statusNotExecutable = 126
	statusNotFound      = 127
)

// CommandError says that the container was ready but the command could not be executed in it.
type CommandError struct {
	// Status is 127 when the command was not found, else 126.
	Status int
	Err    error
}

func (e *CommandError) Error() string { return e.Err.Error() }

// Unwrap returns an error that wraps the errno of execve.
func (e *CommandError) Unwrap() error { return e.Err }

func newCommandError(err error) *CommandError {
	status := statusNotExecutable
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		status = statusNotFound
	}
	return &CommandError{Status: status, Err: err}
}

// lookupCommand finds the file to execute as execvp(3) does, with the PATH of env. The error wraps ENOENT when there is
// none, EACCES when there is one that the user may not execute.
func lookupCommand(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		if err := checkExecutable(name); err != nil {
			return "", fmt.Errorf("execute %s in the container: %w", name, err)
		}
		return name, nil
	}
	path := lookupEnv(env, "PATH")
	reason := error(unix.ENOENT)
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			dir = "."
		}
		candidate := dir + "/" + name
		err := checkExecutable(candidate)
		if err == nil {
			return candidate, nil
		}
		if errors.Is(err, unix.EACCES) {
			reason = err
		}
	}
	return "", fmt.Errorf("execute %s, looked for in the container's PATH %s: %w", name, path, reason)
}

func checkExecutable(path string) error {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return syscall.EACCES
	}
	return unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS)
}

// lookupEnv returns the value of the last pair with this name.
func lookupEnv(env []string, name string) string {
	value := ""
	for _, pair := range env {
		if v, found := strings.CutPrefix(pair, name+"="); found {
			value = v
		}
	}
	return value
}

// mergeEnv returns base and extra without duplicate names; the last pair of a name stays.
func mergeEnv(base, extra []string) []string {
	var merged []string
	position := map[string]int{}
	for _, pair := range append(append([]string{}, base...), extra...) {
		name, _, _ := strings.Cut(pair, "=")
		if at, seen := position[name]; seen {
			merged[at] = pair
			continue
		}
		position[name] = len(merged)
		merged = append(merged, pair)
	}
	return merged
}
