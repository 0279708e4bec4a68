package launcher

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"
)

const (
	manifestTimeout = 10 * time.Second
	maxManifest     = 1 << 20 // bytes
)

// ReadManifest runs the plugin's binary as `PLUGIN manifest`, in a sandbox without any capability, and checks what it
// prints.
func ReadManifest(ctx context.Context, spec Spec) (*wire.Manifest, error) {
	text, err := runManifest(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: %w", spec.Name, err)
	}
	manifest := &wire.Manifest{}
	if err := protojson.Unmarshal(text, manifest); err != nil {
		return nil, fmt.Errorf("plugin %s: %s prints no manifest (is it an intercede plugin of protocol version %d?): %w", spec.Name, spec.Path, wire.ProtocolVersion, err)
	}
	if err := wire.CheckManifest(manifest); err != nil {
		return nil, fmt.Errorf("plugin %s: %s: %w", spec.Name, spec.Path, err)
	}
	if manifest.GetName() != spec.Name {
		return nil, fmt.Errorf("plugin %s: %s is the plugin %q: name it so in the config", spec.Name, spec.Path, manifest.GetName())
	}
	return manifest, nil
}

func runManifest(ctx context.Context, spec Spec) ([]byte, error) {
	binary, err := openBinary(spec.Path, spec.SHA256)
	if err != nil {
		return nil, err
	}
	defer binary.Close()
	ctx, cancel := context.WithTimeout(ctx, manifestTimeout)
	defer cancel()
	cmd, err := sandboxed(sandbox{Name: spec.Path, Args: []string{"manifest"}, ID: userID(spec.Name)})
	if err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	// The first process of a pid namespace takes with it whatever it has started.
	cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWPID
	cmd.ExtraFiles = append(cmd.ExtraFiles, binary)
	cmd.Stdout, cmd.Stderr = &bounded{&stdout}, &bounded{&stderr}
	if err := runFor(ctx, cmd); err != nil {
		return nil, fmt.Errorf("%s manifest: %w: %s", spec.Path, err, strings.ToValidUTF8(stderr.String(), "?"))
	}
	return stdout.Bytes(), nil
}

// runFor runs the command and kills it when the context ends. The command is killed too when the thread that started it
// ends, see becomePlugin.
func runFor(ctx context.Context, cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer stop()
	cmd.WaitDelay = time.Second
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
