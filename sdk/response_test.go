package sdk

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
	protobuf "google.golang.org/protobuf/proto"
)

func TestResponseWire(t *testing.T) {
	for name, test := range map[string]struct {
		response Response
		want     *wire.Response // nil: invalid
		text     string
	}{
		"value":    {Return(-4096), &wire.Response{Kind: &wire.Response_Value{Value: -4096}}, "value -4096"},
		"errno":    {Errno(unix.EPERM), &wire.Response{Kind: &wire.Response_Errno{Errno: 1}}, "errno EPERM (1)"},
		"largest":  {Errno(4095), &wire.Response{Kind: &wire.Response_Errno{Errno: 4095}}, "errno  (4095)"},
		"continue": {Continue(), &wire.Response{Kind: &wire.Response_Continue{Continue: true}}, "continue"},
		"next":     {Next(), &wire.Response{Kind: &wire.Response_Next{Next: true}}, "next"},
		"add fd": {AddFD(os.Stdin, true),
			&wire.Response{Kind: &wire.Response_AddFd{AddFd: &wire.AddFD{CloseOnExec: true}}}, "addfd"},
		"writes": {Return(0).Write(1, []byte{2}).Write(3, nil), &wire.Response{Kind: &wire.Response_Value{},
			Writes: []*wire.Write{{Address: 1, Data: []byte{2}}, {Address: 3}}}, "value 0"},
		"reason": {Next().Because("not_listed", "c 1:1\nis not"), &wire.Response{Kind: &wire.Response_Next{Next: true},
			Reason: &wire.Reason{Code: "not_listed", Text: `c 1:1\nis not`}}, "next"},
		"zero":            {Response{}, nil, "invalid"},
		"write, continue": {Continue().Write(1, nil), nil, "continue"},
		"write, next":     {Next().Write(1, nil), nil, "next"},
		"errno 0":         {Errno(0), nil, "errno  (0)"},
		"errno 4096":      {Errno(4096), nil, "errno  (4096)"},
		"errno -1":        {Errno(^unix.Errno(0)), nil, "errno  (-1)"},
		"errno as value":  {Return(-1), nil, "value -1"},
		"last errno":      {Return(-4095), nil, "value -4095"},
		"no file":         {AddFD(nil, false), nil, "addfd"},
	} {
		t.Run(name, func(t *testing.T) {
			got := &wire.Response{}
			err := test.response.put(got)
			if (err == nil) != (test.want != nil) || err == nil && !protobuf.Equal(got, test.want) {
				t.Errorf("got %v, %v; want %v", got, err, test.want)
			}
			if test.response.String() != test.text {
				t.Errorf("it is shown as %q, want %q", test.response, test.text)
			}
		})
	}
}

// TestInvalidSaysWhy has what is wrong, and what would be right, in the error.
func TestInvalidSaysWhy(t *testing.T) {
	for want, response := range map[string]Response{
		"this is errno 1: build it with Errno": Return(-1), "build success with Return": Errno(0), "1 to 4095": Errno(4096),
		"next with 2 writes": Next().Write(1, nil).Write(2, nil), "it has no file": AddFD(nil, true),
	} {
		if err := response.put(&wire.Response{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", response, err, want)
		}
	}
}

// TestWriteLeavesOriginal builds two responses on a common one.
func TestWriteLeavesOriginal(t *testing.T) {
	common := Return(0).Write(1, nil)
	first, second := common.Write(2, nil), common.Write(3, nil)
	for want, response := range map[string]Response{"[1]": common, "[1 2]": first, "[1 3]": second} {
		var w wire.Response
		if err := response.put(&w); err != nil {
			t.Fatal(err)
		}
		var addresses []uint64
		for _, write := range w.GetWrites() {
			addresses = append(addresses, write.GetAddress())
		}
		if fmt.Sprint(addresses) != want {
			t.Errorf("%v, want %v", addresses, want)
		}
	}
}

// TestWriteIsLinear adds so many writes that copying those before each would take minutes.
func TestWriteIsLinear(t *testing.T) {
	r, n := Return(0), 1<<18
	bytes := testing.Benchmark(func(b *testing.B) {
		for range b.N {
			r = Return(0)
			for i := range n {
				r = r.Write(uint64(i), nil)
			}
		}
	}).AllocedBytesPerOp()
	if bytes > int64(n)*512 {
		t.Errorf("%d bytes for %d writes", bytes, n)
	}
	var w wire.Response
	if err := r.put(&w); err != nil || len(w.GetWrites()) != n || w.GetWrites()[n-1].GetAddress() != uint64(n-1) {
		t.Errorf("%d writes, %v", len(w.GetWrites()), err)
	}
}
