package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/listener"
	"github.com/intercede/intercede/internal/notify"
)

// Attach takes over a listener of the container that claim describes. A further listener of a container that is
// attached (an exec session) shares its sessions and limits. When Attach returns an error the listener is closed, and
// the callers in the container get ENOSYS. A listener of a user who attaches many waits for its first notification
// (see turns), until ctx is done at the latest.
func (b *Broker) Attach(ctx context.Context, file *os.File, claim container.Claim) error {
	l, err := b.takeOver(ctx, file, claim)
	if err != nil {
		file.Close()
		return fmt.Errorf("attach a listener: %w", err)
	}
	waited := b.turns.wait(ctx, claim.PeerUID)
	if err := b.begin(l); err != nil {
		return fmt.Errorf("attach a listener: %w", err)
	}
	event := b.log.Info().Str("container", claim.ID).Str("runtime", claim.Runtime).Int("pid", claim.PID)
	if waited > 0 {
		event.Stringer("waited", waited.Round(time.Millisecond))
	}
	event.Msg("listener attached")
	return nil
}

// takeOver makes a listener of the file, for the container that claim describes.
func (b *Broker) takeOver(ctx context.Context, file *os.File, claim container.Claim) (*listener.Listener, error) {
	if err := notify.FD(file.Fd()).RequireListener(); err != nil {
		return nil, fmt.Errorf("container %q: %w", claim.ID, err)
	}
	if err := b.descriptors.use(descriptorsPerListener); err != nil {
		return nil, fmt.Errorf("container %q: %w", claim.ID, err)
	}
	l, err := b.addListener(ctx, file, claim)
	if err != nil {
		b.descriptors.free(descriptorsPerListener)
	}
	return l, err
}

// addListener joins the container's attachment, prepares it, and adds the file to the poller.
func (b *Broker) addListener(ctx context.Context, file *os.File, claim container.Claim) (*listener.Listener, error) {
	a, err := b.join(claim)
	if err != nil {
		return nil, err
	}
	a.prepare(ctx)
	if !claim.Trusted() {
		a.doubt()
	}
	a.admission.join(&b.crew)
	s := source{a, b.numbers.next()}
	l, err := b.poller.Add(file, s)
	if err != nil {
		b.leave(a)
		return nil, err
	}
	b.KeepDescriptor(s.name(), int(file.Fd()))
	return l, nil
}

// begin adds the listener to its attachment and asks for its first notification.
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

// join finds the container's attachment or makes it, and counts one more listener. A claim without a process is about a
// container that is attached already: crun does not name the process of an exec session.
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
	s := said(c.Claim)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errBrokerClosed
	}
	a := b.containers[keyOf(c)]
	if a == nil {
		if err := b.claims.use(s); err != nil {
			return nil, fmt.Errorf("container %q: %w", c.ID, err)
		}
		if err := b.descriptors.use(descriptorsPerContainer); err != nil {
			b.claims.free(s)
			return nil, fmt.Errorf("container %q: %w", c.ID, err)
		}
		a = newAttachment(b, c, s, b.generation)
		b.containers[keyOf(c)] = a
	}
	a.listenerCount++
	return a, nil
}

// leave subtracts one listener or connection, and ends an attachment that has none left.
func (b *Broker) leave(a *attachment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a.listenerCount--
	b.endUnused(a)
}

// endUnused ends an attachment that has no listener and is not watched. The broker is locked.
func (b *Broker) endUnused(a *attachment) {
	if a.listenerCount > 0 || a.watched || b.closed {
		return
	}
	delete(b.containers, keyOf(a.container))
	b.ending.Add(1)
	go func() {
		defer b.ending.Done()
		a.end(errContainerGone)
		a.removeRecord()
		b.log.Info().Str("container", a.container.ID).Msg("container gone")
	}()
}

// dropListener gives up a listener whose last task is gone, or that failed.
func (b *Broker) dropListener(l *listener.Listener) {
	a := attachmentOf(l)
	if a.removeListener(l) {
		b.ForgetDescriptor(sourceOf(l).name())
		l.Close()
		b.descriptors.free(descriptorsPerListener)
		b.leave(a)
	}
}

// containerKey identifies a container. The peer chooses the ID; the user namespace comes from the kernel.
type containerKey struct {
	runtime, id string
	dev, ino    uint64
}

func keyOf(c *container.Container) containerKey {
	return containerKey{c.Runtime, c.Key(), c.UserNamespace.Dev, c.UserNamespace.Ino}
}
