package sandbox

import (
	"context"
	"os"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// newLifeline makes a pair of sockets: who reads end of file from its end has lost the other. The plugin's blocks, as
// programs expect of a descriptor that they inherit; ours the Go runtime polls.
func newLifeline() (ours, theirs *os.File, err error) {
	a, b, err := linux.Socketpair(unix.SOCK_STREAM)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.SetNonblock(a, true); err != nil {
		linux.CloseAll(a, b)
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(a), "lifeline"), os.NewFile(uintptr(b), "lifeline"), nil
}

// shutdownMethod is how go-plugin asks a plugin to end.
const shutdownMethod = "/plugin.GRPCController/Shutdown"

// endQuietly intercepts go-plugin's request to end, for plugins that do not have the method, as one in another language
// may not: such a plugin loses its broker. go-plugin then waits for it as for any other.
func (p *Process) endQuietly(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	err := invoke(ctx, method, request, reply, conn, options...)
	if method != shutdownMethod || status.Code(err) != codes.Unimplemented {
		return err
	}
	return withDescriptor(p.lifeline, func(fd int) { unix.Shutdown(fd, unix.SHUT_WR) })
}
