package filter

import (
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// plugin is a manifest as the filter sees it.
func plugin(name string, syscalls ...*wire.Syscall) *wire.Manifest {
	return &wire.Manifest{Name: name, Syscalls: syscalls}
}

// takes is a call that is notified when any of the matches holds, always if there is none.
func takes(name string, when ...*wire.Match) *wire.Syscall {
	return &wire.Syscall{Name: name, When: when}
}

// when is a match of one condition; of the value only what the mask has counts.
func when(arg uint32, mask, value uint64) *wire.Match {
	return &wire.Match{All: []*wire.Condition{{Arg: arg, Mask: mask, Value: value & mask}}}
}

// both is a match that holds where all do.
func both(matches ...*wire.Match) *wire.Match {
	all := &wire.Match{}
	for _, m := range matches {
		all.All = append(all.All, m.GetAll()...)
	}
	return all
}

var (
	mknodPlugin = plugin("mknod",
		takes("mknod", when(1, unix.S_IFMT, unix.S_IFCHR), when(1, unix.S_IFMT, unix.S_IFBLK)),
		takes("mknodat", when(2, unix.S_IFMT, unix.S_IFCHR), when(2, unix.S_IFMT, unix.S_IFBLK)))
	sysinfoPlugin  = plugin("sysinfo", takes("sysinfo"))
	setxattrPlugin = plugin("setxattr",
		takes("setxattr", when(3, ^uint64(0), 1)), takes("lsetxattr", when(3, ^uint64(0), 1)),
		takes("fsetxattr", when(3, ^uint64(0), 1)), takes("setxattrat"))
	// With values of other lengths too: see plugins/setxattr.
	anyLengthPlugin = plugin("setxattr", takes("setxattr", when(3, ^uint64(0), 1), when(3, 0xfffe0000, 0)))
	mountPlugin     = plugin("mount", takes("mount",
		when(3, unix.MS_REMOUNT|unix.MS_BIND|unix.MS_MOVE|unix.MS_SHARED|unix.MS_PRIVATE|unix.MS_SLAVE|unix.MS_UNBINDABLE, 0),
		when(3, unix.MS_REMOUNT|unix.MS_BIND, unix.MS_REMOUNT)),
		takes("fsopen"))
	bpfPlugin = plugin("bpf", takes("bpf",
		when(0, 0xffffffff, unix.BPF_PROG_LOAD), when(0, 0xffffffff, unix.BPF_PROG_ATTACH),
		when(0, 0xffffffff, unix.BPF_PROG_DETACH), when(0, 0xffffffff, unix.BPF_PROG_QUERY)))

	shipped = []*wire.Manifest{mknodPlugin, sysinfoPlugin, setxattrPlugin, mountPlugin, bpfPlugin}
)

// wantError fails unless the error has all the texts.
func wantError(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error: want one with %q", texts)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q: want %q in it", err, text)
		}
	}
}
