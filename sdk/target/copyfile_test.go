package target_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// openPath opens a file of the container's /tmp that was made with this content, O_PATH.
func openPath(t *testing.T, c *sdktest.Container, content []byte, owner int, mode os.FileMode) *os.File {
	t.Helper()
	path := filepath.Join(c.Rootfs(), "tmp/file")
	if err := errors.Join(os.WriteFile(path, content, 0o600), os.Chown(path, owner, owner), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

func TestCopyFile(t *testing.T) {
	content := make([]byte, 1<<20+7)
	rand.NewChaCha8([32]byte{}).Read(content)
	for name, test := range map[string]struct {
		content []byte
		owner   int
		mode    os.FileMode
		max     int64
		want    error
	}{
		"a file":             {content, sdktest.HostID, 0o600, 1 << 24, nil},
		"of the length":      {content, sdktest.HostID, 0o600, int64(len(content)), nil},
		"too long":           {content, sdktest.HostID, 0o600, int64(len(content)) - 1, unix.EFBIG},
		"much too long":      {content, sdktest.HostID, 0o600, 10, unix.EFBIG},
		"empty":              {nil, sdktest.HostID, 0o600, 10, nil},
		"empty, none wanted": {nil, sdktest.HostID, 0o600, 0, nil},
		"one byte too many":  {[]byte{1}, sdktest.HostID, 0o600, 0, unix.EFBIG},
		"the host's":         {content, 0, 0o600, 1 << 24, unix.EACCES},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, parked := park(t)
			file := openPath(t, c, test.content, test.owner, test.mode)
			if err := parked.CaptureAll(); err != nil {
				t.Fatal(err)
			}
			before := descriptors(t)
			copied, err := parked.CopyFile(t.Context(), int(file.Fd()), test.max)
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if err != nil {
				if now := descriptors(t); now > before {
					t.Errorf("%d descriptors before, %d after", before, now)
				}
				return
			}
			defer copied.Close()
			if now := descriptors(t); now > before+1 {
				t.Errorf("%d descriptors before, %d after", before, now)
			}
			got, err := io.ReadAll(copied)
			if err != nil || !bytes.Equal(got, test.content) {
				t.Errorf("%d bytes, %v, want %d", len(got), err, len(test.content))
			}
			checkSealed(t, copied)
		})
	}
}

// checkSealed tries to change the file, also as root would.
func checkSealed(t *testing.T, file *os.File) {
	t.Helper()
	if flags, err := unix.FcntlInt(file.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_ACCMODE != unix.O_RDONLY {
		t.Errorf("flags %#x, %v", flags, err)
	}
	for _, flags := range []int{os.O_WRONLY, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_APPEND} {
		opened, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", file.Fd()), flags, 0)
		if err != nil {
			continue
		}
		if _, err := opened.Write([]byte("x")); !errors.Is(err, unix.EPERM) {
			t.Errorf("opened with %#x it can be written: %v", flags, err)
		}
		opened.Close()
	}
}

// TestCopyFileKinds has files that are to be neither opened nor waited for.
func TestCopyFileKinds(t *testing.T) {
	c, _, parked := park(t)
	dir := filepath.Join(c.Rootfs(), "tmp")
	if err := errors.Join(unix.Mkfifo(dir+"/fifo", 0o666), unix.Symlink("fifo", dir+"/link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, dir + "/fifo", dir + "/link", "/dev/null", "/dev/tty"} {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parked.CopyFile(t.Context(), fd, 10); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%s: %v", path, err)
		}
		unix.Close(fd)
	}
	if _, err := parked.CopyFile(t.Context(), -1, 10); err == nil || errors.Is(err, unix.EBADF) {
		t.Errorf("no descriptor: %v", err)
	}
	for _, max := range []int64{-1, target.MaxCopy + 1} {
		if _, err := parked.CopyFile(t.Context(), 0, max); err == nil {
			t.Errorf("a maximum of %d is taken", max)
		}
	}
}

// TestCopyFileOfNobody has a filesystem whose server, the target, does not answer who opens a file.
func TestCopyFileOfNobody(t *testing.T) {
	parked, server, file := openOnFUSE(t, unix.S_IFREG|0o444)
	cancelInside(t, server, func(ctx context.Context) error {
		_, err := parked.CopyFile(ctx, int(file.Fd()), 10)
		return err
	})
}

// TestCopyFileFIFOOfTarget has a FIFO in such a filesystem: nobody is waited for.
func TestCopyFileFIFOOfTarget(t *testing.T) {
	parked, _, file := openOnFUSE(t, unix.S_IFIFO|0o444)
	if _, err := parked.CopyFile(t.Context(), int(file.Fd()), 10); !errors.Is(err, unix.EINVAL) {
		t.Errorf("got %v", err)
	}
}

// openOnFUSE opens (O_PATH) a file of this mode, including S_IFMT, in a filesystem that the target serves.
func openOnFUSE(t *testing.T, mode uint32) (*target.Target, *os.File, *os.File) {
	t.Helper()
	parked, server := parkOnFUSE(t)
	answerInit(t, server)
	if err := parked.CaptureAll(); err != nil {
		t.Fatal(err)
	}
	go answerName(int(server.Fd()), mode)
	file, err := parked.OpenPath(t.Context(), unix.AT_FDCWD, "/tmp/f/file", true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return parked, server, file
}

// answerName answers the question for the name of a file, and those before it.
func answerName(server int, mode uint32) {
	const lookup, entry = 1, 128 // FUSE_LOOKUP, struct fuse_entry_out
	request := make([]byte, 1<<17)
	for {
		if n, err := unix.Read(server, request); err != nil || n < fuseInHeader {
			return
		}
		reply := make([]byte, fuseOutHeader+entry)
		binary.NativeEndian.PutUint32(reply, uint32(len(reply)))
		copy(reply[8:], request[8:16])
		out := reply[fuseOutHeader:]
		binary.NativeEndian.PutUint64(out, 2)            // node
		binary.NativeEndian.PutUint64(out[16:], 3600)    // seconds that the name is valid
		binary.NativeEndian.PutUint64(out[24:], 3600)    // and the attributes
		binary.NativeEndian.PutUint64(out[40:], 2)       // inode number
		binary.NativeEndian.PutUint64(out[48:], 10)      // size
		binary.NativeEndian.PutUint32(out[40+60:], mode) // mode
		binary.NativeEndian.PutUint32(out[40+64:], 1)    // links
		if unix.Write(server, reply); binary.NativeEndian.Uint32(request[4:]) == lookup {
			return
		}
	}
}

// TestCopyFileOfDead has a target that is gone.
func TestCopyFileOfDead(t *testing.T) {
	c, process, parked := park(t)
	file := openPath(t, c, []byte("text"), sdktest.HostID, 0o600)
	process.Kill(t)
	process.Wait(t)
	if _, err := parked.CopyFile(t.Context(), int(file.Fd()), 10); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("got %v", err)
	}
}
