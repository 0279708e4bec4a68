package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/loglimit"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// What needs descriptors of this process.
const (
	ownDescriptors          = 64 // the Go runtime, sockets, the log, and what the other numbers leave out
	descriptorsPerCall      = 12 // what is captured of the caller, a lane, and a descriptor that a plugin gives
	descriptorsPerProcess   = 12 // of a plugin, its lanes excepted
	descriptorsPerContainer = 4  // its user namespace, and its first listener
	descriptorsPerListener  = 1
	// descriptorsPerArrival is what a connection needs that brings a listener, with those of the container.
	descriptorsPerArrival = 8
	// descriptorsPerRelay is what a connection needs over which notifications come, with a call.
	descriptorsPerRelay = 16
)

// maxRoomRecords is how often in a second the log says that descriptors are used up.
const maxRoomRecords = 1

// ErrFull means that this process has no descriptors for one more container.
var ErrFull = errors.New("no descriptors are left for another container: wait until one ends, or raise RLIMIT_NOFILE (LimitNOFILE= of a systemd unit)")

// descriptors shares the descriptors that this process may have among containers and those that are about to come, so
// that none that is served meets the limit.
type descriptors struct {
	log   zerolog.Logger
	limit *loglimit.Limit // of what is logged because peers come and go

	mu       sync.Mutex
	most     int
	used     int           // by containers
	promised int           // to connections
	changed  chan struct{} // closed and replaced when there are more
}

// descriptorLimit returns how many descriptors this process may have.
func descriptorLimit() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return math.MaxInt32
	}
	return int(min(limit.Cur, math.MaxInt32))
}

// workersWithin returns how many workers so many descriptors are enough for: a third of them is for calls.
func workersWithin(limit int) int { return limit / 3 / descriptorsPerCall }

// newDescriptors leaves to containers what so many workers, plugins and private processes of plugins do not need. Each
// plugin may have two processes: when the config is reloaded, or one cannot end.
func newDescriptors(limit, workers, plugins, rooms int, log zerolog.Logger) *descriptors {
	most := limit - ownDescriptors - workers*descriptorsPerCall -
		plugins*(2*descriptorsPerProcess+lane.MaxLanes()) - rooms*(descriptorsPerProcess+lane.MaxIdleLanes)
	return &descriptors{log: log, limit: loglimit.New(maxRoomRecords), most: max(most, 0), changed: make(chan struct{})}
}

// use takes descriptors for a container or a listener.
func (d *descriptors) use(n int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.used+n > d.most {
		return fmt.Errorf("%w; of %d descriptors for containers, %d are taken", ErrFull, d.most, d.used)
	}
	d.used += n
	return nil
}

// free gives back what use has taken.
func (d *descriptors) free(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.used -= n
	d.signal()
}

// signal wakes those that wait for descriptors. The lock is held.
func (d *descriptors) signal() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// Room is room for connections by which containers come. What a connection was promised, its container can use.
type Room struct {
	descriptors *descriptors
	each        int
	kind        string
}

// TryTake reports whether there is room for one more connection, which it takes.
func (r *Room) TryTake() bool {
	taken, _ := r.try()
	return taken
}

func (r *Room) try() (taken bool, changed <-chan struct{}) {
	d := r.descriptors
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.used+d.promised+r.each > d.most {
		return false, d.changed
	}
	d.promised += r.each
	return true, nil
}

// Take waits for room, and says so in the log. It fails with the cause of ctx.
func (r *Room) Take(ctx context.Context) error {
	taken, changed := r.try()
	if taken {
		return nil
	}
	if suppressed, ok := r.descriptors.limit.Take(1); ok {
		r.descriptors.log.Warn().Str("connections", r.kind).Int("suppressed", suppressed).Msg(ErrFull.Error())
	}
	for !taken {
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		taken, changed = r.try()
	}
	return nil
}

// Give gives back what TryTake or Take has taken.
func (r *Room) Give() {
	d := r.descriptors
	d.mu.Lock()
	defer d.mu.Unlock()
	d.promised -= r.each
	d.signal()
}

// ListenerRoom is for connections that bring listeners.
func (b *Broker) ListenerRoom() *Room {
	return &Room{b.descriptors, descriptorsPerArrival, "of runtimes"}
}

// RelayRoom is for connections over which Relay gets notifications.
func (b *Broker) RelayRoom() *Room {
	return &Room{b.descriptors, descriptorsPerRelay, "of LXC"}
}

// checkArrival returns ErrFull if the descriptors do not suffice for another container.
func (d *descriptors) checkArrival() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.used+d.promised+descriptorsPerArrival > d.most {
		return ErrFull
	}
	return nil
}
