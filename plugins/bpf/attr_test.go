package bpf

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// fields makes an attr of 32-bit words at offsets.
func fields(size int, words map[int]uint32) attr {
	data := make([]byte, size)
	for offset, word := range words {
		binary.NativeEndian.PutUint32(data[offset:], word)
	}
	return newAttr(data)
}

func TestParseLoad(t *testing.T) {
	device := map[int]uint32{0: unix.BPF_PROG_TYPE_CGROUP_DEVICE, 4: 2, 8: 0x1000, 16: 0x2000}
	for name, c := range map[string]struct {
		size  int
		words map[int]uint32
		ok    bool
	}{
		"plain":                    {72, nil, true},
		"shortest":                 {48, nil, true},
		"longest":                  {maxAttr, nil, true},
		"zero after what is known": {300, nil, true},
		"expected attach type":     {72, map[int]uint32{68: unix.BPF_CGROUP_DEVICE}, true},
		"log":                      {72, map[int]uint32{24: 1, 28: 4096, 32: 0x3000}, true},
		"log_true_size":            {144, map[int]uint32{loadLogTrueSize: 7}, true},
		"alignment":                {72, map[int]uint32{44: 3}, true},
		"sizes of records":         {144, map[int]uint32{76: 8, 92: 16, 136: 16}, true},
		"empty":                    {0, map[int]uint32{}, false},
		"another type":             {72, map[int]uint32{0: unix.BPF_PROG_TYPE_SOCKET_FILTER}, false},
		"network":                  {72, map[int]uint32{0: unix.BPF_PROG_TYPE_CGROUP_SKB, 4: 2}, true},
		"longer network":           {72, map[int]uint32{0: unix.BPF_PROG_TYPE_CGROUP_SKB, 4: 3}, false},
		"outgoing network":         {72, map[int]uint32{0: unix.BPF_PROG_TYPE_CGROUP_SKB, 4: 2, 68: 1}, false},
		"another flag":             {72, map[int]uint32{44: unix.BPF_F_SLEEPABLE}, false},
		"another attach type":      {72, map[int]uint32{68: 1}, false},
		"prog_ifindex":             {72, map[int]uint32{64: 1}, false},
		"prog_btf_fd":              {76, map[int]uint32{72: 3}, false},
		"func_info_cnt":            {112, map[int]uint32{88: 1}, false},
		"line_info_cnt":            {112, map[int]uint32{104: 1}, false},
		"attach_btf_id":            {120, map[int]uint32{108: 1}, false},
		"attach_prog_fd":           {120, map[int]uint32{112: 3}, false},
		"core_relo_cnt":            {144, map[int]uint32{116: 1}, false},
		"fd_array":                 {144, map[int]uint32{120: 0x1000}, false},
		"fd_array, high half":      {144, map[int]uint32{124: 1}, false},
		"prog_token_fd":            {152, map[int]uint32{144: 3}, false},
		"fd_array_cnt":             {152, map[int]uint32{148: 1}, false},
		"signature":                {168, map[int]uint32{152: 1}, false},
		"unknown":                  {maxAttr, map[int]uint32{maxAttr - 4: 1 << 31}, false},
	} {
		t.Run(name, func(t *testing.T) {
			words := map[int]uint32{}
			for _, m := range []map[int]uint32{device, c.words} {
				for offset, word := range m {
					if offset+4 <= c.size {
						words[offset] = word
					}
				}
			}
			l, ok := parseLoad(fields(c.size, words))
			if ok != c.ok {
				t.Fatalf("ok is %v", ok)
			}
			if ok && (l.insnCnt != 2 || l.insns != 0x1000 || l.license != 0x2000) {
				t.Errorf("got %+v", l)
			}
		})
	}
}

func TestParseAttach(t *testing.T) {
	const override, replace = unix.BPF_F_ALLOW_OVERRIDE, unix.BPF_F_REPLACE
	base := map[int]uint32{0: 3, 4: 4, 8: unix.BPF_CGROUP_DEVICE}
	for name, c := range map[string]struct {
		words map[int]uint32
		want  unix.Errno
	}{
		"multi":             {map[int]uint32{12: multi}, 0},
		"none":              {nil, 0},
		"override":          {map[int]uint32{12: override}, 0},
		"replace":           {map[int]uint32{12: multi | replace, 16: 5}, 0},
		"multi, override":   {map[int]uint32{12: multi | override}, 0},
		"replace alone":     {map[int]uint32{12: replace, 16: 5}, 0},
		"before":            {map[int]uint32{12: multi | unix.BPF_F_BEFORE}, unix.EINVAL},
		"preorder":          {map[int]uint32{12: multi | 1<<6}, unix.EINVAL},
		"relative_fd":       {map[int]uint32{12: multi, 20: 1}, unix.EINVAL},
		"expected_revision": {map[int]uint32{12: multi, 24: 1}, unix.EINVAL},
		"unknown":           {map[int]uint32{12: multi, 60: 1}, unix.EINVAL},
	} {
		t.Run(name, func(t *testing.T) {
			words := map[int]uint32{}
			for _, m := range []map[int]uint32{base, c.words} {
				for offset, word := range m {
					words[offset] = word
				}
			}
			at, errno := parseAttach(fields(64, words))
			if errno != c.want {
				t.Fatalf("got %v, want %v", errno, c.want)
			}
			if at.target != 3 || at.program != 4 || at.attachType != unix.BPF_CGROUP_DEVICE ||
				at.flags != words[12] || at.replaced != int(words[16]) {
				t.Errorf("got %+v", at)
			}
		})
	}
}

func TestContradicts(t *testing.T) {
	const override, replace = unix.BPF_F_ALLOW_OVERRIDE, unix.BPF_F_REPLACE
	for flags, want := range map[uint32]bool{
		0: false, multi: false, override: false, multi | replace: false,
		multi | override: true, replace: true, override | replace: true, multi | override | replace: true,
	} {
		if got := (attachAttr{flags: flags}).contradicts(); got != want {
			t.Errorf("flags %#x contradict: %v", flags, got)
		}
	}
}

func TestParseDetachAndLink(t *testing.T) {
	plain := fields(16, map[int]uint32{0: 3, 4: 4, 8: unix.BPF_CGROUP_DEVICE})
	if at, errno := parseDetach(plain); errno != 0 || at.target != 3 || at.program != 4 {
		t.Errorf("detach: %+v, %v", at, errno)
	}
	if at, errno := parseLink(plain); errno != 0 || at.target != 4 || at.program != 3 || at.flags != multi || !at.link {
		t.Errorf("link: %+v, %v", at, errno)
	}
	negative := fields(16, map[int]uint32{0: 1<<32 - 1})
	if at, _ := parseDetach(negative); at.target != -1 {
		t.Errorf("descriptor -1 is %d", at.target)
	}
	for offset := 12; offset < 64; offset += 4 {
		more := fields(64, map[int]uint32{offset: 1})
		if _, errno := parseDetach(more); errno != unix.EINVAL {
			t.Errorf("detach with a word at %d: %v", offset, errno)
		}
		if _, errno := parseLink(more); errno != unix.EINVAL {
			t.Errorf("link with a word at %d: %v", offset, errno)
		}
	}
}

func TestParseQuery(t *testing.T) {
	for name, c := range map[string]struct {
		words map[int]uint32
		ok    bool
	}{
		"device":         {map[int]uint32{4: unix.BPF_CGROUP_DEVICE}, true},
		"effective":      {map[int]uint32{4: unix.BPF_CGROUP_DEVICE, 8: 1}, true},
		"flags and room": {map[int]uint32{4: unix.BPF_CGROUP_DEVICE, 16: 1, 24: 64, 32: 1, 56: 9}, true},
		"another type":   {map[int]uint32{4: unix.BPF_CGROUP_INET_INGRESS}, false},
		"links":          {map[int]uint32{4: unix.BPF_CGROUP_DEVICE, 40: 1, 48: 1}, true},
		"unknown":        {map[int]uint32{4: unix.BPF_CGROUP_DEVICE, 64: 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			q, ok := parseQuery(fields(72, c.words))
			if ok != c.ok || q.count != c.words[24] || q.flags != c.words[8] {
				t.Errorf("got %+v, %v", q, ok)
			}
		})
	}
}

// FuzzAttr parses any bytes as each command's attr. What is taken says all that the attr says: all else is zero.
func FuzzAttr(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, maxAttr))
	f.Add(fields(72, map[int]uint32{0: unix.BPF_PROG_TYPE_CGROUP_DEVICE, 4: 2, 8: 0x1000, 16: 0x2000}).data[:72])
	f.Add(fields(20, map[int]uint32{0: 3, 4: 4, 8: unix.BPF_CGROUP_DEVICE, 12: multi}).data[:20])
	f.Add(fields(64, map[int]uint32{4: unix.BPF_CGROUP_DEVICE, 16: 0x1000, 24: 64}).data[:64])
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxAttr {
			return
		}
		a := newAttr(data)
		clear := func(from, to int) { clear(data[min(from, len(data)):min(to, len(data))]) }
		if _, ok := parseLoad(a); ok {
			clear(0, 64)    // what a loadAttr has
			clear(68, 72)   // expected_attach_type
			clear(76, 88)   // func_info without a count
			clear(92, 104)  // line_info without a count
			clear(128, 140) // core_relos without a count
			clear(140, 144) // log_true_size
			if len(bytes.Trim(data, "\x00")) != 0 {
				t.Errorf("a program is loaded with unknown fields: %x", data)
			}
			return
		}
		if at, errno := parseAttach(a); errno == 0 && (!a.zero(20) || at.flags > 7) {
			t.Errorf("a program is attached with unknown fields: %+v, %x", at, data)
		}
		if at, errno := parseDetach(a); errno == 0 && !a.zero(12) {
			t.Errorf("a program is detached with unknown fields: %+v, %x", at, data)
		}
		if at, errno := parseLink(a); errno == 0 && (!a.zero(12) || at.flags != multi) {
			t.Errorf("a link is made with unknown fields: %+v, %x", at, data)
		}
		if q, ok := parseQuery(a); ok && (!a.zero(64) || a.u32(4) != unix.BPF_CGROUP_DEVICE) {
			t.Errorf("a query with unknown fields: %+v, %x", q, data)
		}
	})
}
