// Package broker is the broker: it owns the listeners, routes each notification to the plugin that takes it, and
// answers the kernel, exactly once for each, whatever the plugin does.
//
// Threads wait in the poller. The one that receives a notification handles it to the end, and makes sure that another
// waits meanwhile, up to a limit. So nothing is handed over, and a slow call delays no other.
package broker

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/auditsink"
	"github.com/intercede/intercede/core/journal"
	"github.com/intercede/intercede/core/listener"
	"github.com/intercede/intercede/core/metrics"
	"github.com/intercede/intercede/core/record"
	"github.com/intercede/intercede/core/trace"
	"github.com/intercede/intercede/internal/loglimit"
	"github.com/rs/zerolog"
)

const (
	// attachTimeout bounds how long a plugin may take to attach a container; its callers wait in the kernel.
	attachTimeout = 10 * time.Second
	// closeGrace is how long Close lets running calls finish before they get the failure verdict.
	closeGrace = 3 * time.Second
	// cancelGrace is how long Close waits then for calls that have to end: what does not hangs in the kernel.
	cancelGrace = 2 * time.Second
	// drainTime bounds how long Close answers calls that wait to be received; those left get ENOSYS from the kernel.
	drainTime = time.Second
)

// ErrOver means that the container, or the broker, has ended.
var ErrOver = errors.New("no longer served")

var (
	errBrokerClosed  = fmt.Errorf("%w: the broker is shutting down", ErrOver)
	errContainerGone = fmt.Errorf("%w: the container is gone", ErrOver)
)

// Config is what a Broker needs.
type Config struct {
	Generation *Generation
	Rooms      int // that the plugins have for private processes, see MaxRooms
	State      State
	Log        zerolog.Logger
	Audit      *auditsink.Sink // nil: there is none
	Calls      *metrics.Calls  // nil: they are not counted
}

// Broker handles the notifications of many containers. Its methods may be called concurrently.
type Broker struct {
	log     zerolog.Logger
	observe func(audit.Record)
	audit   *auditsink.Sink
	calls   *metrics.Calls
	trace   trace.Hub
	poller  *listener.Poller

	processors  *processors
	crew        crew
	workers     sync.WaitGroup // those that are not held up
	watchdog    *watchdog
	pacer       *pacer
	panics      *loglimit.Limit
	descriptors *descriptors
	claims      claims
	turns       turns
	state       State
	numbers     numbers
	totals      pluginTotals
	handingOver atomic.Bool // see HandOver

	mu         sync.Mutex
	generation *Generation
	containers map[containerKey]*attachment
	lost       []*record.Record // of containers without listeners
	closed     bool
	ending     sync.WaitGroup // attachments that are being ended
}

// New makes a broker and starts its first worker.
func New(config Config) (*Broker, error) {
	poller, err := listener.NewPoller()
	if err != nil {
		return nil, err
	}
	processors, err := findProcessors(poller.Pending)
	if err != nil {
		poller.Release()
		return nil, err
	}
	plugins, limit := len(config.Generation.Bindings), descriptorLimit()
	workers := findMaxThreads(plugins, config.Rooms, limit)
	b := &Broker{
		log:         config.Log,
		audit:       config.Audit,
		calls:       config.Calls,
		poller:      poller,
		processors:  processors,
		crew:        crew{max: workers},
		generation:  config.Generation.hold(),
		panics:      loglimit.New(maxPanics),
		descriptors: newDescriptors(limit, workers, plugins, config.Rooms, config.Log),
		turns:       usualTurns(len(processors.numbers)),
		state:       config.State,
		containers:  map[containerKey]*attachment{},
	}
	if b.state.Journal == nil {
		b.state.Journal = &journal.Journal{}
	}
	b.watchdog = startWatchdog(b)
	b.pacer = &pacer{watchdog: b.watchdog, processors: len(processors.numbers)}
	b.startWorker()
	return b, nil
}

// MaxConnections returns how many goroutines may call Relay: each keeps a thread of its own.
func (b *Broker) MaxConnections() int { return b.crew.max }

// Observe has fn called with the record of each call, by the thread that answered it. The record is valid only until fn
// returns. Observe must be called before the first Attach.
func (b *Broker) Observe(fn func(audit.Record)) { b.observe = fn }

// SetGeneration gives the containers that are attached from now on another generation. The others keep theirs.
func (b *Broker) SetGeneration(generation *Generation) {
	b.mu.Lock()
	old := b.generation
	b.generation = generation.hold()
	b.mu.Unlock()
	old.release()
}

// Close answers or releases every parked call and lets go of the generation. Running calls may finish for a moment;
// what is left, and what waits to be received, gets the failure verdict; later calls get ENOSYS from the kernel. Attach
// must not be called any more.
func (b *Broker) Close() {
	b.mu.Lock()
	b.closed = true
	attachments := make([]*attachment, 0, len(b.containers))
	for _, a := range b.containers {
		attachments = append(attachments, a)
	}
	clear(b.containers)
	b.mu.Unlock()

	b.poller.Close()
	var closing sync.WaitGroup
	for _, a := range attachments {
		closing.Go(func() { a.shutDown() })
	}
	closing.Wait()
	b.workers.Wait()
	b.ending.Wait()
	b.watchdog.close()
	b.poller.Release()
	b.generation.release()
}
