package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/intercede/intercede/core/keep"
	"github.com/intercede/intercede/core/socket"
)

// Manager is who started the daemon and keeps descriptors for it: systemd, or `intercede keep`.
type Manager struct {
	Store     *keep.Store // nil: it keeps none
	Inherited []keep.Descriptor
}

// sockets gives the listening sockets among what was inherited, and takes them from there. Those that are bound are
// kept from then on.
func (m *Manager) sockets() *socket.Kept {
	kept := &socket.Kept{}
	var others []keep.Descriptor
	for _, d := range m.Inherited {
		if socket.IsListening(d.File) {
			kept.Files = append(kept.Files, d.File)
		} else {
			others = append(others, d)
		}
	}
	m.Inherited = others
	if m.Store.Available() {
		kept.Put = func(name string, fd int) error {
			// One of this name that nobody could connect to any more may be left.
			return errors.Join(m.Store.Remove(name), m.Store.Put(name, fd))
		}
	}
	return kept
}

// forgetSockets closes the sockets that the config does not name any more.
func (m *Manager) forgetSockets(kept *socket.Kept) error {
	var errs []error
	for _, file := range kept.Files {
		file.Close()
		if strings.HasPrefix(file.Name(), socket.NamePrefix) {
			errs = append(errs, m.Store.Remove(file.Name()))
		}
	}
	kept.Files = nil
	return errors.Join(errs...)
}

// IsKept reports whether there is somebody who keeps descriptors for the next daemon.
func (s *Server) IsKept() bool { return s.manager.Store.Available() }

// tell tells the manager a state; it is logged if that fails.
func (s *Server) tell(state string) {
	if err := s.manager.Store.Notify(state); err != nil {
		s.log.Error().Err(err).Msg("the manager is not told")
	}
}

// tellReady tells the manager that the daemon serves.
func (s *Server) tellReady() {
	plugins, containers := s.engine.Status()
	s.tell(fmt.Sprintf("STATUS=%d plugins, %d containers", len(plugins), len(containers)))
	s.tell(keep.Ready)
}

// feedWatchdog tells the manager again and again, until ctx is done, that the daemon works, if it does. A daemon that
// hangs is ended by the manager.
func (s *Server) feedWatchdog(ctx context.Context) {
	interval := keep.WatchdogInterval()
	if interval == 0 || !s.manager.Store.Available() {
		return
	}
	ticks := time.NewTicker(interval / 3)
	defer ticks.Stop()
	for {
		if err := s.prove(ctx, interval); err != nil {
			if ctx.Err() != nil {
				return
			}
			s.log.Error().Err(err).Msg("the daemon does not work any more: the manager is to end it")
		} else {
			s.tell(keep.Watchdog)
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
	}
}

// errLocked means that the state of the daemon cannot be had.
var errLocked = errors.New("the daemon's state is locked")

// prove returns an error unless calls are taken, and the locks of the broker and of all plugins can be had, before the
// timeout.
func (s *Server) prove(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := s.engine.Ping(ctx); err != nil {
		return err
	}
	unlocked := make(chan struct{})
	go func() {
		s.engine.Status()
		close(unlocked)
	}()
	select {
	case <-unlocked:
		return nil
	case <-ctx.Done():
		return errLocked
	}
}

// checkStore says in the log what would be lost with this process, and why.
func (s *Server) checkStore() {
	store := s.manager.Store
	switch {
	case !store.Available():
		s.log.Warn().Msg("no descriptor store: containers get ENOSYS when the daemon ends. Start it by systemd, or by `intercede keep -- intercede serve`")
	case store.Size() > 0 && store.Size() < wantedStore:
		s.log.Warn().Int("size", store.Size()).Msgf("the descriptor store is small: want %d for 1,000 containers (FileDescriptorStoreMax=)", wantedStore)
	case store.Size() == 0:
		s.log.Warn().Msg("the size of the descriptor store is not known: set FileDescriptorStoreMax=, and Environment=FDSTORE= to the same number")
	}
}

// wantedStore is for 1,000 containers with an exec session each.
const wantedStore = 4096
