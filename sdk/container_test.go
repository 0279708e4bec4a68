package sdk

import (
	"math"
	"testing"
)

func TestIDMap(t *testing.T) {
	m := IDMap{{Inside: 0, Outside: 1000, Length: 1}, {Inside: 1, Outside: 100000, Length: 65535},
		{Inside: 1 << 31, Outside: math.MaxUint32 - 1, Length: 2}}
	for inside, outside := range map[uint32]uint32{0: 1000, 1: 100000, 65535: 165534, 1 << 31: math.MaxUint32 - 1, 1<<31 + 1: math.MaxUint32} {
		if got, ok := m.Outside(inside); !ok || got != outside {
			t.Errorf("%d is %d outside, %v; want %d", inside, got, ok, outside)
		}
		if got, ok := m.Inside(outside); !ok || got != inside {
			t.Errorf("%d is %d inside, %v; want %d", outside, got, ok, inside)
		}
	}
	for _, id := range []uint32{65536, 1<<31 - 1, 1<<31 + 2, math.MaxUint32} {
		if got, ok := m.Outside(id); ok {
			t.Errorf("%d is %d outside", id, got)
		}
	}
	for _, id := range []uint32{0, 999, 1001, 99999, 165535, math.MaxUint32 - 2} {
		if got, ok := m.Inside(id); ok {
			t.Errorf("%d is %d inside", id, got)
		}
	}
	c := Container{UIDMap: IDMap{{Inside: 0, Outside: 1000, Length: 1}}, GIDMap: IDMap{{Inside: 0, Outside: 2000, Length: 1}}}
	for ids, want := range map[[2]uint32]bool{{1000, 2000}: true, {1000, 1000}: false, {2000, 2000}: false, {0, 0}: false} {
		if got := c.Maps(ids[0], ids[1]); got != want {
			t.Errorf("%v: %v", ids, got)
		}
	}
}
