package sdk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// added sends the descriptors of answers on streams, which gRPC cannot carry, over the socket of the lanes.
type added struct {
	open chan struct{} // closed when end is known

	mu   sync.Mutex
	end  *lane.End // nil: there is no such socket
	last uint64
}

// use takes the socket, which stays the caller's; nil: there is none.
func (a *added) use(control *lane.End) {
	if control != nil {
		a.end, _ = control.Clone()
	}
	close(a.open)
}

// close closes what use has made.
func (a *added) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.end != nil {
		a.end.Close()
		a.end = nil
	}
}

// send sends a file's descriptor, and returns the number by which the answer names it.
func (a *added) send(ctx context.Context, file *os.File) (number uint64, err error) {
	select {
	case <-a.open:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	fd := int(file.Fd())
	if err := checkOpen(fd); err != nil {
		return 0, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.end == nil {
		return 0, errors.New("the broker has given no socket for descriptors")
	}
	a.last++
	message := &wire.LaneControl{Control: &wire.LaneControl_Descriptors{Descriptors: a.last}}
	if err := a.end.Send(message, fd); err != nil {
		return 0, fmt.Errorf("sending the descriptor of the response: %w", err)
	}
	return a.last, nil
}

// checkOpen returns an error if a response's descriptor is not open.
func checkOpen(fd int) error {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
		return fmt.Errorf("the descriptor of the response: %w", err)
	}
	return nil
}
