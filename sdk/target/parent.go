package target

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/intercede/intercede/internal/capture"
	"golang.org/x/sys/unix"
)

// OpenParentHere, called inside Do, opens (O_PATH) the directory in which path names an entry, and returns its
// descriptor, which the caller closes, and the entry's name with its trailing slashes, for a call such as mknodat(2)
// that makes the entry. A relative path starts at dir, an own descriptor, or AT_FDCWD. An empty path is ENOENT.
//
// It follows no magic link of procfs (/proc/1/root, /proc/self/fd/3): the error is then ELOOP. The kernel asks who
// follows such a link, and that would be this process: where a target sees a procfs of this process's pid namespace,
// /proc/self/root would be the root of the host. OpenParent follows them as the target.
func OpenParentHere(dir int, path string) (parentDir int, entry string, err error) {
	if path == "" {
		return -1, "", &os.PathError{Op: "openat2", Path: path, Err: unix.ENOENT} // path_resolution(7)
	}
	parent, name := splitLast(path)
	fd, err := unix.Openat2(dir, parent, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return -1, "", &os.PathError{Op: "openat2", Path: parent, Err: err}
	}
	return fd, name, nil
}

// OpenParent is like OpenParentHere, outside Do, and resolves the path exactly as the target would, by its own power;
// access is what the directory must allow it. Paths through /proc/self and /proc/thread-self lead where they lead for
// the target.
func (t *Target) OpenParent(ctx context.Context, dir int, path string, access uint32) (*os.File, string, error) {
	if path == "" {
		return nil, "", &os.PathError{Op: "open", Path: path, Err: unix.ENOENT}
	}
	path, err := t.resolveSelf(ctx, dir, path)
	if err != nil {
		return nil, "", err
	}
	parent, name := splitLast(path)
	file, err := t.openAt(ctx, dir, parent, unix.O_DIRECTORY, access)
	return file, name, err
}

// splitLast splits a path before its last component, as the kernel does when it makes an entry (filename_parentat,
// fs/namei.c). The path of slashes alone has "." as its name, which makes such a call fail with EEXIST, as it should.
func splitLast(path string) (parent, name string) {
	end := len(strings.TrimRight(path, "/"))
	if end == 0 {
		return "/", "."
	}
	start := strings.LastIndexByte(path[:end], '/') + 1
	if start == 0 {
		return ".", path
	}
	return path[:start], path[start:]
}

const (
	// maxLinks is how many symbolic links the kernel follows (MAXSYMLINKS, include/linux/namei.h).
	maxLinks = 40
	// maxSteps bounds the components of a walk. Links could make them many more than any program needs, at this
	// process's cost.
	maxSteps = 4096
)

// resolveSelf replaces the links self and thread-self of procfs in path, which the kernel resolves by who asks, by what
// they are for the target. It is not a check: where the path leads in the end is the kernel's decision, for the target.
// So a path that changes meanwhile, or that cannot be followed, does no harm; such is returned as far as it came.
func (t *Target) resolveSelf(ctx context.Context, dir int, path string) (string, error) {
	credentials, err := t.Credentials()
	if err != nil {
		return "", err
	}
	resolved := path
	err = t.Do(CapabilitySet(unix.CAP_DAC_READ_SEARCH), func() error {
		w := &walk{credentials: credentials, rest: path}
		if err := w.start(dir); err != nil {
			return nil
		}
		defer w.close()
		for steps := 0; steps < maxSteps && ctx.Err() == nil && w.step(); steps++ {
		}
		if w.met {
			resolved = string(w.done) + w.rest
		}
		return nil
	})
	return resolved, err
}

// walk follows a path, component by component.
type walk struct {
	credentials *Credentials
	at          int    // the directory reached; -1 at the end
	done        []byte // the path to it
	rest        string // what remains
	links       int
	met         bool // self or thread-self was in the path
}

func (w *walk) start(dir int) error {
	start := "."
	if strings.HasPrefix(w.rest, "/") {
		start, w.done, dir = "/", append(w.done[:0], '/'), unix.AT_FDCWD
		w.rest = strings.TrimLeft(w.rest, "/")
	}
	var err error
	w.at, err = unix.Openat(dir, start, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return err
}

func (w *walk) close() { unix.Close(w.at) }

// step walks one component; false at the last, which is left alone, or when it cannot go on.
func (w *walk) step() bool {
	component, rest, more := strings.Cut(w.rest, "/")
	rest = skipNothing(rest)
	if !more || rest == "" {
		return false
	}
	inProc, isProcRoot := w.procfs()
	link, err := readlinkat(w.at, component)
	if isProcRoot {
		if self := w.self(component); self != "" {
			w.met = true
			link, err = self, nil
		}
	}
	switch {
	case err != nil:
		return w.descend(component, rest, unix.O_NOFOLLOW)
	case inProc && !isProcRoot:
		return w.descend(component, rest, 0) // a link that only the kernel can follow, /proc/1/root for example
	}
	if w.links++; w.links > maxLinks {
		return false
	}
	return w.follow(link, rest)
}

// descend opens a component.
func (w *walk) descend(component, rest string, flags int) bool {
	next, err := unix.Openat(w.at, component, unix.O_PATH|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return false
	}
	w.close()
	w.at = next
	w.done = append(append(w.done, component...), '/')
	w.rest = rest
	return true
}

// skipNothing leaves out leading slashes and components ".", but for a last one.
func skipNothing(path string) string {
	for {
		path = strings.TrimLeft(path, "/")
		if !strings.HasPrefix(path, "./") {
			return path
		}
		path = path[2:]
	}
}

// follow puts a link's text before what remains.
func (w *walk) follow(link, rest string) bool {
	w.rest = link + "/" + rest
	if !strings.HasPrefix(link, "/") {
		return true
	}
	w.close()
	w.at = -1
	return w.start(unix.AT_FDCWD) == nil
}

func readlinkat(dir int, name string) (string, error) {
	text := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, text)
	if err != nil {
		return "", err
	}
	return string(text[:n]), nil
}

// procfs reports whether the walk stands in a procfs, and whether it is at its root (PROC_ROOT_INO is 1, fs/proc).
func (w *walk) procfs() (inProc, isRoot bool) {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if unix.Fstatfs(w.at, &fs) != nil || fs.Type != unix.PROC_SUPER_MAGIC || unix.Fstat(w.at, &st) != nil {
		return false, false
	}
	return true, st.Ino == 1
}

// self is what the link of this name in the procfs at hand is for the target; empty if it is another link, or if the
// procfs is of a pid namespace that the target is not in.
func (w *walk) self(name string) string {
	if name != "self" && name != "thread-self" {
		return ""
	}
	c := w.credentials
	for level := range c.PIDs {
		tgid := strconv.Itoa(c.TGIDs[level])
		thread := fmt.Sprintf("%s/task/%d", tgid, c.PIDs[level])
		switch {
		case !w.isTarget(thread, level):
		case name == "self":
			return tgid
		default:
			return thread
		}
	}
	return ""
}

// isTarget reports whether the procfs at hand shows the target in this directory: its status lists the ids from the
// procfs's own pid namespace on. The target may have mounted something else over it, a FIFO for example.
func (w *walk) isTarget(thread string, level int) bool {
	fd, err := unix.Openat2(w.at, thread+"/status", &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return false
	}
	file := os.NewFile(uintptr(fd), "status")
	defer file.Close()
	text := make([]byte, 1<<16)
	n, _ := file.Read(text)
	var shown capture.Credentials
	err = capture.ParseStatus(text[:n], &shown)
	return err == nil && slices.Equal(toInts(shown.Tgids), w.credentials.TGIDs[level:]) && slices.Equal(toInts(shown.Tids), w.credentials.PIDs[level:])
}
