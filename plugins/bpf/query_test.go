package bpf

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// answered is what a query left in the caller's memory.
type answered struct {
	errno              unix.Errno
	attachFlags, count uint32
	ids                []uint32
}

// TestQuery compares with what the host's root is told of the same cgroup.
func TestQuery(t *testing.T) {
	c, tr := enabledContainer(t)
	tr.attachAsHost(t, ".", 1, multi)
	for range 3 {
		tr.attachAsHost(t, "own", 1, multi)
	}
	tr.attachAsHost(t, "own/sub", 1, unix.BPF_F_ALLOW_OVERRIDE)
	var ids []uint32
	for _, name := range []string{"own", "own/sub", "own/sub/deep"} {
		for _, flags := range []int{0, 1} { // BPF_F_QUERY_EFFECTIVE
			for _, count := range []int{0, 2, 4} {
				t.Run(fmt.Sprintf("%s-%d-%d", name, flags, count), func(t *testing.T) {
					line := c.Call(t, openDir("/top/"+name), "sys "+queryCall(3, flags, count)).Lines(t)[0]
					attr := numbers(line.Bufs[0])
					got := answered{line.Errno, attr[3], attr[6], numbers(line.Bufs[1])}
					if want := tr.query(t, name, flags, count); !reflect.DeepEqual(got, want) {
						t.Errorf("got %+v, want %+v", got, want)
					}
					ids = append(ids, got.ids...)
				})
			}
		}
	}
	if len(ids) == 0 || !slices.ContainsFunc(ids, func(id uint32) bool { return id != 0 }) {
		t.Error("no query gave an id")
	}
}

func numbers(text []byte) []uint32 {
	var all []uint32
	for ; len(text) >= 4; text = text[4:] {
		all = append(all, binary.NativeEndian.Uint32(text))
	}
	return all
}

// query asks as the host's root, like queryCall.
func (tr tree) query(t *testing.T, name string, flags, count int) answered {
	t.Helper()
	var ids [4]uint32
	a := struct {
		target, attachType, flags, attachFlags uint32
		ids                                    *[4]uint32
		count, _                               uint32
		_                                      [4]uint64
	}{uint32(tr.open(t, name).Fd()), unix.BPF_CGROUP_DEVICE, uint32(flags), 0x5a5a, &ids, uint32(count), 0, [4]uint64{}}
	_, errno := bpf(cmdQuery, &a)
	return answered{errno, a.attachFlags, a.count, ids[:]}
}

// TestQueryMore asks with all that newer kernels know, where a program is attached.
func TestQueryMore(t *testing.T) {
	c, tr := enabledContainer(t)
	host := tr.attachAsHost(t, "own", 1, multi)
	const query = "sys bpf 16 struct:4=3,4=6,4=0,4=0,p=buf:8,4=2,4=0,p=buf:8,p=buf:8,p=buf:8,8=0 64"
	var room [2][2]uint32
	direct := progQuery{target: uint32(tr.open(t, "own").Fd()), attachType: unix.BPF_CGROUP_DEVICE, count: 2, ids: unsafe.Pointer(&room[0]),
		progFlags: unsafe.Pointer(&room[1]), linkIDs: unsafe.Pointer(&room[0]), linkFlags: unsafe.Pointer(&room[0])}
	_, errno := bpf(cmdQuery, &direct)
	line := c.Call(t, openDir("/top/own"), query).Lines(t)[0]
	if line.Errno != errno {
		t.Errorf("got %v, real root gets %v", line.Errno, errno)
	}
	if errno != 0 {
		return // before 6.6
	}
	if got := numbers(line.Bufs[1]); got[0] != idOf(t, host) {
		t.Errorf("ids %v, want %d", got, idOf(t, host))
	}
	if got := numbers(line.Bufs[2]); got[0] != multi {
		t.Errorf("flags %v", got)
	}
	if revision := binary.NativeEndian.Uint64(line.Bufs[0][56:]); revision == 0 {
		t.Log("the kernel has no revisions of cgroups")
	}
}
