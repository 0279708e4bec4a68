package broker

import (
	"testing"

	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// TestCheckResponse is for plugins that no SDK keeps from answering so.
func TestCheckResponse(t *testing.T) {
	value := func(v int64) *wire.Response { return &wire.Response{Kind: &wire.Response_Value{Value: v}} }
	write := []*wire.Write{{Address: 1}}
	for name, test := range map[string]struct {
		arch     uint32
		response *wire.Response
		ok       bool
	}{
		"value":                      {unix.AUDIT_ARCH_X86_64, value(1<<32 - 1), true},
		"negative":                   {unix.AUDIT_ARCH_AARCH64, value(-4096), true},
		"errno as value":             {unix.AUDIT_ARCH_X86_64, value(-1), false},
		"last errno as value":        {unix.AUDIT_ARCH_X86_64, value(-4095), false},
		"errno to 32 bits":           {unix.AUDIT_ARCH_I386, value(1<<32 - 1), false},
		"errno, behind other bits":   {unix.AUDIT_ARCH_I386, value(5<<32 - 1), false},
		"address of 32 bits":         {unix.AUDIT_ARCH_I386, value(0xf7000000), true},
		"continue":                   {unix.AUDIT_ARCH_X86_64, &wire.Response{Kind: &wire.Response_Continue{Continue: true}}, true},
		"continue with writes":       {unix.AUDIT_ARCH_X86_64, &wire.Response{Kind: continueResponse.Kind, Writes: write}, false},
		"next with write":            {unix.AUDIT_ARCH_X86_64, &wire.Response{Kind: &wire.Response_Next{Next: true}, Writes: write}, false},
		"errno 0":                    {unix.AUDIT_ARCH_X86_64, errnoResponse(0), false},
		"descriptor that is missing": {unix.AUDIT_ARCH_X86_64, &wire.Response{Kind: &wire.Response_AddFd{AddFd: &wire.AddFD{}}}, false},
		"nothing":                    {unix.AUDIT_ARCH_X86_64, &wire.Response{}, false},
	} {
		if err := checkResponse(test.arch, test.response, nil); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
