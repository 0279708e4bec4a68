package ociruntime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	// tryEnv marks the environment of a runtime that is executed to see whether it is one.
	tryEnv = "INTERCEDE_TRIES_OCI_RUNTIME"
	// tryTimeout bounds how long that may take.
	tryTimeout = 10 * time.Second
	// maxSaid bounds what an error has of the runtime's words, in bytes.
	maxSaid = 200
)

// errLoop is what the wrapper says that is executed to see whether it is the real runtime.
var errLoop = errors.New("it executes intercede itself: name the runtime that intercede is to execute, such as \"runc\"")

// isTried returns an error if this process was started by Try: the runtime that it was given leads back to intercede.
func isTried() error {
	if os.Getenv(tryEnv) == "" {
		return nil
	}
	return errLoop
}

// Try executes the runtime for its version, for a name or path that config.CheckOCIRuntime accepts. The error says why
// the wrapper could not execute it, or that it is the wrapper, by whatever scripts it leads there.
func Try(ctx context.Context, runtime string) error {
	path, err := FindRuntime(runtime)
	if err != nil {
		return fmt.Errorf("%q: %w", runtime, err)
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, path, "--version")
	command.Env = append(os.Environ(), tryEnv+"=1")
	command.WaitDelay = time.Second
	said, err := command.CombinedOutput()
	switch {
	case err == nil:
		return nil
	case strings.Contains(string(said), errLoop.Error()):
		return fmt.Errorf("%s: %w", path, errLoop)
	case ctx.Err() != nil:
		return fmt.Errorf("%s --version takes longer than %v: is it an OCI runtime?", path, tryTimeout)
	default:
		return fmt.Errorf("%s --version: %w: %.*q: is it an OCI runtime?", path, err, maxSaid, said)
	}
}
