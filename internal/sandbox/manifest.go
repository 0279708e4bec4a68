package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

const (
	manifestTimeout = 60 * time.Second // on a busy host
	maxManifest     = 1 << 20          // bytes
)

// PrintManifest runs the plugin's binary, or a script by its interpreter, as `PLUGIN manifest`, without any capability
// and declared use, and returns what it prints.
func PrintManifest(ctx context.Context, name, path string, binary *os.File, interpreter *Interpreter) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, manifestTimeout)
	defer cancel()
	files, err := cloneFiles(binary, interpreter)
	if err != nil {
		return nil, err
	}
	defer files.close()
	r := restrictions{Args: files.arguments(path, "manifest"), ID: UserID(name), Tasks: maxThreads}
	if files.script != nil {
		r.Script = binaryFD + 1
	}
	cmd, err := command(ctx, r, files.executed)
	if err != nil {
		return nil, err
	}
	if files.script != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, files.script)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &bounded{&stdout}, &bounded{&stderr}
	if err := runFor(ctx, cmd); err != nil {
		return nil, fmt.Errorf("%s manifest: %w: %s", path, err, strings.ToValidUTF8(stderr.String(), "?"))
	}
	return stdout.Bytes(), nil
}

// runFor runs the command, which ends with the context. It is killed too when the thread that started it ends, see
// becomePlugin.
func runFor(ctx context.Context, cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	err := cmd.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("it does not end: %w", ctx.Err())
	}
	return err
}

// bounded is a writer that fails at maxManifest bytes.
type bounded struct {
	buffer *bytes.Buffer
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.buffer.Len()+len(p) > maxManifest {
		return 0, io.ErrShortWrite
	}
	return b.buffer.Write(p)
}
