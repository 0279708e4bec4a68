package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/figures"
	"github.com/intercede/intercede/core/metrics"
	"github.com/intercede/intercede/core/record"
	"github.com/intercede/intercede/internal/version"
)

func (s *Server) status() *control.Status {
	problems := s.problems(context.Background())
	plugins, containers := s.engine.Status()
	setup := s.setup.Load()
	return &control.Status{
		PID: os.Getpid(), Started: s.started, Socket: s.sockets.runtime, LXCSocket: s.sockets.lxc, Plugins: plugins, Containers: containers,
		Lost: s.engine.Lost(), Plain: s.listPlain(), Version: version.Number(), At: time.Now(),
		Healthy: len(problems) == 0, Problems: problems, Reload: s.lastReload.Load(),
		Config:      control.Config{Path: setup.path, SHA256: setup.doc.SHA256, Generation: s.engine.GenerationNumber()},
		PluginCalls: s.engine.PluginCalls(), Bounds: figures.Bounds(),
	}
}

func (s *Server) listPlain() []record.Plain { return record.ListPlain(filepath.Dir(s.sockets.control)) }

// containers is what is known of the containers with this ID or name, or else of those whose IDs begin so.
func (s *Server) containers(who string) *control.Containers {
	found := &control.Containers{Attached: s.engine.FactsByID(who)}
	if len(found.Attached) > 0 || who == "" {
		return found
	}
	found.Lost = slices.DeleteFunc(s.engine.Lost(), func(l broker.LostContainer) bool { return !strings.HasPrefix(l.ID, who) })
	found.Plain = slices.DeleteFunc(s.listPlain(), func(p record.Plain) bool { return !strings.HasPrefix(p.ID, who) })
	return found
}

// NoteReload notes what came of reading the config again.
func (s *Server) NoteReload(done *control.Reloaded, err error) {
	if err == nil && len(done.Problems) > 0 {
		err = done.Problems
	}
	last := &control.LastReload{At: time.Now(), OK: err == nil}
	if err != nil {
		last.Error = firstLine(err)
	}
	s.lastReload.Store(last)
	if last.OK {
		s.inForce.Store(&last.At)
	}
}

// lastReloaded is what metrics say of it. Before the first reload it is the start.
func (s *Server) lastReloaded() metrics.Reload {
	last := s.lastReload.Load()
	return metrics.Reload{OK: last == nil || last.OK, Last: *s.inForce.Load()}
}

// firstLine is the first line of an error, and how many there are more.
func firstLine(err error) string {
	lines := strings.Split(err.Error(), "\n")
	if len(lines) == 1 {
		return lines[0]
	}
	return fmt.Sprintf("%s (and %d more)", lines[0], len(lines)-1)
}
