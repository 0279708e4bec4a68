package mount

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// scratch is a mount namespace with nothing in it but a small tmpfs. There the kernel looks a source up, and nothing
// else of the host: whatever path a filesystem takes from its options or from the device itself leads nowhere. And
// there a mount gets its locked flags.
type scratch struct {
	namespace int
	root      int // O_PATH
}

// mountPoint is the directory in it on which a mount is locked.
const mountPoint = "mnt"

// openScratch is the one of this process.
var openScratch = sync.OnceValues(func() (scratch, error) {
	var s scratch
	var err error
	done := make(chan struct{})
	target.GoOnThread(func() {
		defer close(done)
		s, err = makeScratch()
	})
	<-done
	return s, err
})

// makeScratch makes it on the calling thread, which is to end.
func makeScratch() (scratch, error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return scratch{}, fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return scratch{}, fmt.Errorf("private mounts: %w", err)
	}
	namespace, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return scratch{}, err
	}
	// Any directory will do: the host's mounts are not seen from here on.
	if err := unix.Mount("intercede", "/proc", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0700,size=16m"); err != nil {
		return scratch{}, fmt.Errorf("mount of a tmpfs: %w", err)
	}
	if err := unix.Chdir("/proc"); err != nil {
		return scratch{}, err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return scratch{}, fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return scratch{}, fmt.Errorf("umount of the host's mounts: %w", err)
	}
	if err := unix.Mkdir("/"+mountPoint, 0o700); err != nil {
		return scratch{}, err
	}
	root, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	return scratch{namespace, root}, err
}

// names numbers the directories below the root.
var names atomic.Uint64

// makeDirectory makes one below the root, and opens it (O_PATH).
func (s scratch) makeDirectory() (dir int, path string, err error) {
	path = fmt.Sprintf("/proc/self/fd/%d/%d", s.root, names.Add(1))
	if err := unix.Mkdir(path, 0o700); err != nil {
		return -1, "", &os.PathError{Op: "mkdir", Path: path, Err: err}
	}
	if dir, err = unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
		os.Remove(path)
		return -1, "", &os.PathError{Op: "open", Path: path, Err: err}
	}
	return dir, path, nil
}

// sourceRoot is a directory in which the path of a source leads to a node of the device.
type sourceRoot struct {
	dir  int // O_PATH
	path string
}

func (r *sourceRoot) close() {
	unix.Close(r.dir)
	os.RemoveAll(r.path)
}

// place makes a directory in which name, relative or absolute, leads to the block device dev, as it did for the
// caller. The kernel takes a source by its name, which /proc/mounts then shows; here nobody can put another device in
// its place.
func (s scratch) place(name string, dev uint64) (*sourceRoot, error) {
	dir, path, err := s.makeDirectory()
	if err != nil {
		return nil, err
	}
	r := &sourceRoot{dir, path}
	if err := r.makeNode(name, dev); err != nil {
		r.close()
		return nil, fmt.Errorf("a node for the source: %w", err)
	}
	return r, nil
}

// makeNode makes every directory that a walk along name goes through, and the node at its end.
func (r *sourceRoot) makeNode(name string, dev uint64) error {
	at := "."
	components := strings.FieldsFunc(name, func(c rune) bool { return c == '/' })
	for i, component := range components {
		switch component {
		case ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		at = filepath.Join(at, component)
		if i == len(components)-1 {
			return unix.Mknodat(r.dir, at, unix.S_IFBLK|0o600, int(dev))
		}
		if err := unix.Mkdirat(r.dir, at, 0o700); err != nil && err != unix.EEXIST {
			return err
		}
	}
	return unix.EINVAL
}
