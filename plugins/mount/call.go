package mount

import (
	"bytes"
	"context"
	"os"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// maxData is how much of the data mount(2) copies (copy_mount_options, fs/namespace.c).
var maxData = os.Getpagesize()

// call is mount(source, target, type, flags, data). A string whose pointer is NULL is nil.
type call struct {
	source *string
	target string
	fstype *string
	flags  msFlags
	data   string
}

// optionalString is a string argument that may be NULL (copy_mount_string, fs/namespace.c).
func optionalString(req *sdk.Request, arg int) (*string, unix.Errno) {
	if req.Pointer(arg) == 0 {
		return nil, 0
	}
	text, fault := req.String(arg)
	if fault == unix.ENAMETOOLONG { // strndup_user, mm/util.c
		fault = unix.EINVAL
	}
	return &text, fault
}

// decode reads the arguments in the kernel's order.
func decode(ctx context.Context, req *sdk.Request, flags msFlags) (c call, err error) {
	c.flags = flags
	var fault unix.Errno
	if c.fstype, fault = optionalString(req, 2); fault != 0 {
		return c, refusal{fault, badArguments, ""}
	}
	if c.source, fault = optionalString(req, 0); fault != 0 {
		return c, refusal{fault, badArguments, ""}
	}
	if c.data, err = readData(ctx, req); err != nil {
		return c, err
	}
	if c.target, fault = req.Path(1); fault != 0 {
		return c, refusal{fault, badArguments, ""}
	}
	return c, nil
}

// readData reads the last argument: a string, or a page without a NUL, of which the last byte does not count. What
// cannot be read after the first byte is zero.
func readData(ctx context.Context, req *sdk.Request) (string, error) {
	address := req.Pointer(4)
	if address == 0 {
		return "", nil
	}
	text, fault := req.String(4)
	if fault == 0 {
		return text, nil
	}
	n := maxData
	data, fault, err := req.Read(ctx, address, n)
	if err == nil && fault != 0 { // as far as the page goes
		n -= int(address % uint64(n))
		data, fault, err = req.Read(ctx, address, n)
	}
	if err != nil {
		return "", err
	}
	if fault != 0 {
		return "", refusal{fault, badArguments, ""}
	}
	return cutData(data), nil
}

// cutData is the string that the kernel sees in the page.
func cutData(page []byte) string {
	page = page[:min(len(page), maxData-1)]
	if end := bytes.IndexByte(page, 0); end >= 0 {
		page = page[:end]
	}
	return string(page)
}
