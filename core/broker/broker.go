// Package broker is the broker: it owns the listeners, routes each notification to the plugin that takes it, and answers
// the kernel, exactly once for each, whatever the plugin does.
//
// Threads wait in the poller, leader and followers: the one that receives a notification handles it to the end, and
// makes sure that another waits meanwhile, up to a limit. So nothing is handed over, and a slow call delays no other.
package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/listener"
	"github.com/intercede/intercede/internal/notify"
	"github.com/rs/zerolog"
)

const (
	// attachTimeout bounds how long a plugin may take to attach a container; its callers wait in the kernel.
	attachTimeout = 10 * time.Second
	// closeGrace is how long Close lets running calls finish before they get the failure verdict.
	closeGrace = 3 * time.Second
	// drainTime bounds how long Close answers calls that wait to be received; those left get ENOSYS from the kernel.
	drainTime = time.Second
)

// ErrOver is wrapped by the errors that say that the container, or the broker, has ended.
var ErrOver = errors.New("no longer served")

var (
	errBrokerClosed  = fmt.Errorf("%w: the broker is shutting down", ErrOver)
	errContainerGone = fmt.Errorf("%w: the container is gone", ErrOver)
)

// Config is what a Broker needs.
type Config struct {
	Generation *Generation
	Log        zerolog.Logger
}

// Broker handles the notifications of many containers. Its methods may be called concurrently.
type Broker struct {
	log     zerolog.Logger
	audit   *audit.Log
	observe func(audit.Record)
	poller  *listener.Poller

	processors *processors
	crew       crew
	workers    sync.WaitGroup

	mu         sync.Mutex
	generation *Generation
	containers map[containerKey]*attachment
	closed     bool
	ending     sync.WaitGroup // attachments that are being ended
}

// containerKey tells containers apart: the id is the peer's word, the user namespace the kernel's.
type containerKey struct {
	runtime, id string
	dev, ino    uint64
}

func keyOf(c *container.Container) containerKey {
	return containerKey{c.Runtime, c.Key(), c.UserNamespace.Dev, c.UserNamespace.Ino}
}

// New makes a broker and starts its first worker.
func New(config Config) (*Broker, error) {
	processors, err := findProcessors()
	if err != nil {
		return nil, err
	}
	poller, err := listener.NewPoller()
	if err != nil {
		return nil, err
	}
	b := &Broker{
		log:        config.Log,
		audit:      audit.New(config.Log),
		poller:     poller,
		processors: processors,
		crew:       crew{max: findMaxThreads(len(config.Generation.Bindings))},
		generation: config.Generation.hold(),
		containers: map[containerKey]*attachment{},
	}
	b.startWorker()
	return b, nil
}

// MaxConnections is how many goroutines may call Relay: each has a thread of its own for good.
func (b *Broker) MaxConnections() int { return b.crew.max }

// Observe has fn called with the record of each call, by the thread that answered it, for which alone the record is valid. It is
// called before the first Attach.
func (b *Broker) Observe(fn func(audit.Record)) { b.observe = fn }

// SetGeneration gives the containers that are attached from now on another generation. The others keep theirs.
func (b *Broker) SetGeneration(generation *Generation) {
	b.mu.Lock()
	old := b.generation
	b.generation = generation.hold()
	b.mu.Unlock()
	old.release()
}

// Attach takes over a listener of the container that claim describes. A further listener of a container that is
// attached (an exec session) shares its sessions and limits. When Attach returns an error the listener is closed, and
// the callers in the container get ENOSYS.
func (b *Broker) Attach(ctx context.Context, file *os.File, claim container.Claim) error {
	l, err := b.takeOver(ctx, file, claim)
	if err != nil {
		file.Close()
		return fmt.Errorf("attach a listener: %w", err)
	}
	if err := b.begin(l); err != nil {
		return fmt.Errorf("attach a listener: %w", err)
	}
	b.log.Info().Str("container", claim.ID).Str("runtime", claim.Runtime).Int("pid", claim.PID).Msg("listener attached")
	return nil
}

// takeOver makes the file a listener of its container's attachment, which is then prepared.
func (b *Broker) takeOver(ctx context.Context, file *os.File, claim container.Claim) (*listener.Listener, error) {
	if err := notify.FD(file.Fd()).RequireListener(); err != nil {
		return nil, fmt.Errorf("container %q: %w", claim.ID, err)
	}
	a, err := b.join(claim)
	if err != nil {
		return nil, err
	}
	a.prepare(ctx)
	l, err := b.poller.Add(file, a)
	if err != nil {
		b.leave(a)
		return nil, err
	}
	return l, nil
}

// begin waits for the listener's notifications.
func (b *Broker) begin(l *listener.Listener) error {
	if !attachmentOf(l).addListener(l) {
		l.Close()
		return errBrokerClosed
	}
	if err := l.Arm(); err != nil {
		b.dropListener(l)
		return err
	}
	return nil
}

// join finds the container's attachment or makes it, and counts one listener more. A claim without a process (crun does
// not say whose an exec session's is) is about a container that is attached already.
func (b *Broker) join(claim container.Claim) (*attachment, error) {
	if claim.PID == 0 {
		return b.joinByID(claim)
	}
	c, err := container.Inspect(claim)
	if err != nil {
		return nil, err
	}
	a, err := b.joinContainer(c)
	if err != nil || a.container != c {
		c.Close()
	}
	return a, err
}

func (b *Broker) joinByID(claim container.Claim) (*attachment, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errBrokerClosed
	}
	err := errors.New("the runtime names no process of it, and it is not attached yet")
	for key, a := range b.containers {
		if key.runtime != claim.Runtime || key.id != claim.ID {
			continue
		}
		if err = a.container.CheckPeer(claim.PeerUID); err == nil {
			a.listenerCount++
			return a, nil
		}
	}
	return nil, fmt.Errorf("container %q: %w", claim.ID, err)
}

func (b *Broker) joinContainer(c *container.Container) (*attachment, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errBrokerClosed
	}
	a := b.containers[keyOf(c)]
	if a == nil {
		a = newAttachment(b, c, b.generation)
		b.containers[keyOf(c)] = a
	}
	a.listenerCount++
	return a, nil
}

// leave counts one listener or connection less.
func (b *Broker) leave(a *attachment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a.listenerCount--
	b.endUnused(a)
}

// endUnused ends an attachment that nothing keeps. The broker is locked.
func (b *Broker) endUnused(a *attachment) {
	if a.listenerCount > 0 || a.watched || b.closed {
		return
	}
	delete(b.containers, keyOf(a.container))
	b.ending.Add(1)
	go func() {
		defer b.ending.Done()
		a.end(errContainerGone)
		b.log.Info().Str("container", a.container.ID).Msg("container gone")
	}()
}

// dropListener ends the use of a listener whose last task is gone, or that failed.
func (b *Broker) dropListener(l *listener.Listener) {
	a := attachmentOf(l)
	if a.removeListener(l) {
		l.Close()
		b.leave(a)
	}
}

// Close answers or releases every parked call and lets go of the generation. Running calls may finish for a
// moment; what is left, and what waits to be received, gets the failure verdict; later calls get ENOSYS from the kernel.
// Attach is not to be called any more.
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
	b.poller.Release()
	b.generation.release()
}

// ContainerStatus is an attached container for an operator.
type ContainerStatus struct {
	ID        string    `json:"id"`
	Runtime   string    `json:"runtime"`
	InitPID   int       `json:"init_pid"`
	Attached  time.Time `json:"attached"`
	Listeners int       `json:"listeners"`
	Inflight  int       `json:"inflight"` // calls being handled
	Calls     uint64    `json:"calls"`
	Failures  uint64    `json:"failures"` // calls that got a plugin's failure verdict
	Plugins   []string  `json:"plugins"`
}

// Status lists the attached containers, the oldest first.
func (b *Broker) Status() []ContainerStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]ContainerStatus, 0, len(b.containers))
	for _, a := range b.containers {
		s := ContainerStatus{
			ID: a.container.ID, Runtime: a.container.Runtime, InitPID: a.container.InitPID, Attached: a.attached,
			Listeners: a.listenerCount, Inflight: a.admission.inflight(), Calls: a.calls.Load(), Failures: a.failures.Load(),
		}
		for _, binding := range a.assigned().Bindings {
			s.Plugins = append(s.Plugins, binding.Plugin.Name())
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(x, y ContainerStatus) int { return x.Attached.Compare(y.Attached) })
	return list
}
