package target

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenParent opens (O_PATH) the directory in which path names an entry, as OpenAt does, and returns the entry's name
// with its trailing slashes, for a call such as mknodat(2) that makes the entry. The target may write and search the
// directory, by its own power. Paths through /proc/self and /proc/thread-self lead where they lead for the target.
func (t *Target) OpenParent(ctx context.Context, dir int, path string) (*os.File, string, error) {
	path, err := t.resolveSelf(dir, path)
	if err != nil {
		return nil, "", err
	}
	parent, name := splitLast(path)
	file, err := t.OpenAt(ctx, dir, parent, unix.O_PATH|unix.O_DIRECTORY, unix.W_OK|unix.X_OK)
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

// maxLinks is how many symbolic links the kernel follows (MAXSYMLINKS, include/linux/namei.h).
const maxLinks = 40

// resolveSelf replaces the links self and thread-self of procfs in path, which the kernel resolves by who asks, by what
// they are for the target. It is no check: where the path leads in the end is the kernel's decision, for the target. So
// a path that changes meanwhile, or that cannot be followed, does no harm; such is returned as far as it came.
func (t *Target) resolveSelf(dir int, path string) (string, error) {
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
		for w.step() {
		}
		if w.met {
			resolved = w.done + w.rest
		}
		return nil
	})
	return resolved, err
}

// walk follows a path, component by component.
type walk struct {
	credentials *Credentials
	at          int    // the directory reached; -1 at the end
	done        string // the path to it
	rest        string // what remains
	links       int
	met         bool // self or thread-self was in the path
}

func (w *walk) start(dir int) error {
	start := "."
	if strings.HasPrefix(w.rest, "/") {
		start, w.done, dir = "/", "/", unix.AT_FDCWD
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
	rest = strings.TrimLeft(rest, "/")
	if !more || rest == "" {
		return false
	}
	link, err := readlinkat(w.at, component)
	if err != nil {
		return w.descend(component, rest, unix.O_NOFOLLOW)
	}
	if w.links++; w.links > maxLinks {
		return false
	}
	inProc, isProcRoot := w.procfs()
	if self := w.self(component); isProcRoot && self != "" {
		w.met = true
		link = self
	} else if inProc && !isProcRoot {
		return w.descend(component, rest, 0) // a link that only the kernel can follow, /proc/1/root for example
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
	w.done += component + "/"
	w.rest = rest
	return true
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

// procfs says whether the walk stands in a procfs, and whether at its root (PROC_ROOT_INO is 1, fs/proc).
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
	for level := len(c.PIDs) - 1; level >= 0; level-- {
		tgid := strconv.Itoa(c.TGIDs[level])
		if !w.isTarget(tgid, level) {
			continue
		}
		if name == "self" {
			return tgid
		}
		return fmt.Sprintf("%s/task/%d", tgid, c.PIDs[level])
	}
	return ""
}

// isTarget says whether the procfs at hand shows the target's process under this number: its status lists the ids from
// the procfs's own pid namespace on.
func (w *walk) isTarget(tgid string, level int) bool {
	fd, err := unix.Openat(w.at, tgid+"/status", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	file := os.NewFile(uintptr(fd), "status")
	defer file.Close()
	text := make([]byte, 1<<16)
	n, _ := file.Read(text)
	shown, err := parseStatus(text[:n])
	return err == nil && slices.Equal(shown.TGIDs, w.credentials.TGIDs[level:])
}
