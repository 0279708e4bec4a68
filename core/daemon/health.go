package daemon

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/internal/version"
	"github.com/intercede/intercede/internal/wire"
)

const (
	// proveTimeout is how long the broker may take to show that it takes calls.
	proveTimeout = 3 * time.Second
	// restartPatience is how long a plugin that has died may take to run again: its calls wait meanwhile.
	restartPatience = time.Second
)

// health reports whether the daemon does its work. A plugin that is being started again has a moment for it.
func (s *Server) health(ctx context.Context) *control.Health {
	h := &control.Health{PID: os.Getpid(), Version: version.Number()}
	ticks := time.NewTicker(restartPatience / 20)
	defer ticks.Stop()
	for end := time.Now().Add(restartPatience); ; {
		h.Problems = s.problems(ctx)
		if h.Healthy = len(h.Problems) == 0; h.Healthy || time.Now().After(end) {
			return h
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return h
		}
	}
}

// problems says what keeps the daemon from its work now.
func (s *Server) problems(ctx context.Context) []string {
	if err := s.prove(ctx, proveTimeout); err != nil {
		return []string{fmt.Sprintf("the daemon does not take calls: %v", err)}
	}
	plugins, _ := s.engine.Status()
	return pluginProblems(plugins)
}

// pluginProblems says which plugins do not run.
func pluginProblems(plugins []launcher.Status) []string {
	problems := []string{}
	for _, p := range plugins {
		if p.State != launcher.Running {
			problems = append(problems, fmt.Sprintf("the plugin %s is %s: %s", p.Name, p.State, wire.Plain(p.Error, wire.MaxReasonText)))
		}
	}
	return problems
}
