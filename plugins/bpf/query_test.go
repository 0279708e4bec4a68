package main

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
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
	c, tr := newContainer(t)
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
					got := c.Call(t, openDir("/top/"+name), "sys "+queryCall(3, flags, count)).Lines(t)[0]
					a := answered{got.Errno, binary.NativeEndian.Uint32(got.Bufs[0][12:]), binary.NativeEndian.Uint32(got.Bufs[0][24:]), numbers(got.Bufs[1])}
					want := tr.query(t, name, flags, count)
					if a.errno != want.errno || a.attachFlags != want.attachFlags || a.count != want.count || !slices.Equal(a.ids, want.ids) {
						t.Errorf("got %+v, want %+v", a, want)
					}
					ids = append(ids, a.ids...)
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

// TestQueryMore asks with all that newer kernels know.
func TestQueryMore(t *testing.T) {
	call := func(flags, progFlags string) string {
		return "sys bpf 16 struct:4=3,4=6," + flags + ",4=0,p=buf:8,4=2,4=0," + progFlags + ",p=buf:8,p=buf:8,8=0 64"
	}
	p := newPair(t)
	for name, test := range map[string]scripted{
		"nothing":   {[]string{openDir("/top/own"), call("4=0", "p=buf:8")}, "ok", "value"},
		"no flags":  {[]string{openDir("/top/own"), call("4=0", "8=0")}, "ok", "value"},
		"effective": {[]string{openDir("/top/own"), call("4=1", "8=0")}, "ok", "value"},
		"both":      {[]string{openDir("/top/own"), call("4=1", "p=buf:8")}, "EINVAL", "errno"},
	} {
		t.Run(name, func(t *testing.T) { p.compare(t, test) })
	}
	c, tr := newContainer(t)
	host := tr.attachAsHost(t, "own", 1, multi)
	line := c.Call(t, openDir("/top/own"), call("4=0", "p=buf:8")).Lines(t)[0]
	info, err := host.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	if got := numbers(line.Bufs[1]); line.Errno != 0 || ebpf.ProgramID(got[0]) != id {
		t.Errorf("%v, ids %v, want %d", line.Errno, got, id)
	}
	if got := numbers(line.Bufs[2]); got[0] != multi {
		t.Errorf("flags %v", got)
	}
	if revision := binary.NativeEndian.Uint64(line.Bufs[0][56:]); revision == 0 {
		t.Log("the kernel has no revisions of cgroups")
	}
}
