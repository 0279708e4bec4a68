package target

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// NamespaceID identifies a namespace while something holds it open: stat(2) of its file in nsfs (namespaces(7)).
type NamespaceID struct {
	Dev, Ino uint64
}

// StatNamespace identifies the namespace whose file path is, "/proc/1/ns/user" for example. It reads the link, as
// "user:[4026531837]" (ns_get_name, fs/nsfs.c), which takes a third of the time of stat(2).
func StatNamespace(path string) (NamespaceID, error) {
	dev, err := nsfs()
	if err != nil {
		return NamespaceID{}, err
	}
	var buf [64]byte
	n, err := unix.Readlink(path, buf[:])
	if err != nil {
		return NamespaceID{}, processError(&os.PathError{Op: "readlink", Path: path, Err: err})
	}
	_, after, _ := bytes.Cut(buf[:n], []byte(":["))
	number, _ := bytes.CutSuffix(after, []byte("]"))
	ino, err := strconv.ParseUint(string(number), 10, 64)
	if err != nil {
		return NamespaceID{}, fmt.Errorf("%s is not a link to a namespace: %q", path, string(buf[:n]))
	}
	return NamespaceID{Dev: dev, Ino: ino}, nil
}

// nsfs is the device of all namespaces' files: there is one such filesystem.
var nsfs = sync.OnceValues(func() (uint64, error) {
	const path = "/proc/thread-self/ns/user"
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return uint64(st.Dev), nil
})

// UserNamespace identifies the thread's user namespace.
func (t *Target) UserNamespace() (NamespaceID, error) {
	id, err := StatNamespace(t.proc("ns/user"))
	if err != nil {
		return NamespaceID{}, err
	}
	return id, t.endRead()
}

// TranslateTID gives the id, in this process's pid namespace, of the thread that the target names tid: sched_setattr(2)
// and its like take ids of the caller's pid namespace. The error wraps unix.ESRCH if the target sees no such thread.
//
// Kernels before 6.11 cannot be asked. There it looks through the threads in /proc, which takes the longer the more
// there are in the target's pid namespace.
func (t *Target) TranslateTID(tid int) (int, error) {
	ns, err := t.open("ns/pid", unix.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer unix.Close(ns)
	translated, err := linux.TranslatePID(ns, tid)
	if errors.Is(err, unix.ENOTTY) {
		translated, err = t.scanForTID(tid)
	}
	if err != nil {
		return 0, fmt.Errorf("pid %d of the pid namespace of thread %d: %w", tid, t.tid, err)
	}
	return translated, nil
}
