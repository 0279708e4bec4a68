package broker

import (
	"errors"
	"fmt"

	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// continueResponse is for calls that no plugin decided, and for failure verdicts. The kernel then performs all of the
// call, as if there were no filter, and checks the caller's own privileges: it relies on nothing that the broker saw.
var continueResponse = &wire.Response{Kind: &wire.Response_Continue{Continue: true}}

var nextResponse = &wire.Response{Kind: &wire.Response_Next{Next: true}}

func errnoResponse(errno int32) *wire.Response {
	return &wire.Response{Kind: &wire.Response_Errno{Errno: errno}}
}

// failureResponse turns the failure verdict into a response. Without a verdict the caller gets ENOSYS, as if the kernel
// did not have the call.
func failureResponse(v *wire.Verdict) *wire.Response {
	switch kind := v.GetKind().(type) {
	case *wire.Verdict_Continue:
		return continueResponse
	case *wire.Verdict_Errno:
		return errnoResponse(kind.Errno)
	default:
		return errnoResponse(int32(unix.ENOSYS))
	}
}

// asReturned is the value as the caller's register has it: a 32-bit caller gets the low half.
func asReturned(arch uint32, value int64) int64 {
	if arch&archIs64Bit == 0 {
		return int64(int32(value))
	}
	return value
}

// archIs64Bit is __AUDIT_ARCH_64BIT (linux/audit.h).
const archIs64Bit = 0x80000000

// checkResponse refuses what a plugin may not answer to a caller of the architecture.
func checkResponse(arch uint32, response *wire.Response, added *lane.Descriptor) error {
	switch kind := response.GetKind().(type) {
	case *wire.Response_Value:
		if value := asReturned(arch, kind.Value); value < 0 && value >= -wire.MaxErrno {
			return fmt.Errorf("the plugin answered value %d, which is errno %d to the caller", kind.Value, -value)
		}
		return nil
	case *wire.Response_Continue, *wire.Response_Next:
		if n := len(response.GetWrites()); n > 0 {
			return fmt.Errorf("the plugin answered continue or next with %d writes: the kernel, or the next plugin, would read them", n)
		}
		return nil
	case *wire.Response_Errno:
		if kind.Errno < 1 || kind.Errno > wire.MaxErrno {
			return fmt.Errorf("the plugin answered errno %d", kind.Errno)
		}
		return nil
	case *wire.Response_AddFd:
		if added == nil {
			return errors.New("the plugin answered a descriptor without one")
		}
		return nil
	default:
		return errors.New("the plugin answered nothing")
	}
}
