package sdk

import (
	"os"
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
		"value":    {Return(-1), &wire.Response{Kind: &wire.Response_Value{Value: -1}}, "value -1"},
		"errno":    {Errno(unix.EPERM), &wire.Response{Kind: &wire.Response_Errno{Errno: 1}}, "errno EPERM (1)"},
		"largest":  {Errno(4095), &wire.Response{Kind: &wire.Response_Errno{Errno: 4095}}, "errno  (4095)"},
		"continue": {Continue(), &wire.Response{Kind: &wire.Response_Continue{Continue: true}}, "continue"},
		"next":     {Next(), &wire.Response{Kind: &wire.Response_Next{Next: true}}, "next"},
		"add fd": {AddFD(os.Stdin, true),
			&wire.Response{Kind: &wire.Response_AddFd{AddFd: &wire.AddFD{Fd: 0, CloseOnExec: true}}}, "addfd"},
		"writes": {Return(0).Write(1, []byte{2}).Write(3, nil), &wire.Response{Kind: &wire.Response_Value{},
			Writes: []*wire.Write{{Address: 1, Data: []byte{2}}, {Address: 3}}}, "value 0"},
		"zero":            {Response{}, nil, "invalid"},
		"write, continue": {Continue().Write(1, nil), nil, "continue"},
		"write, next":     {Next().Write(1, nil), nil, "next"},
		"errno 0":         {Errno(0), nil, "errno  (0)"},
		"errno 4096":      {Errno(4096), nil, "errno  (4096)"},
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

// TestWriteLeavesOriginal builds two responses on a common one.
func TestWriteLeavesOriginal(t *testing.T) {
	common := Return(0).Write(1, nil)
	first, second := common.Write(2, nil), common.Write(3, nil)
	if len(common.writes) != 1 || first.writes[1].GetAddress() != 2 || second.writes[1].GetAddress() != 3 {
		t.Errorf("%v, %v, %v", common.writes, first.writes, second.writes)
	}
}
