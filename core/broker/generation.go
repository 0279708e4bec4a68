package broker

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/internal/wire"
)

// Generation is what one loaded config becomes: running plugins with their settings, the routes to them, and limits. A
// reload makes the next generation. It is counted: the broker holds the one that new containers get, and each container
// holds the one that it has.
type Generation struct {
	Number   uint64    // of the config since the daemon started, from 1; 0: it is an earlier daemon's
	Bindings []Binding // in the order in which the plugins are asked
	Limits   Limits
	// Assign finds what a container gets. It is called once for each container, concurrently. nil: each gets Bindings,
	// without an explanation.
	Assign func(*container.Container) Assignment
	// SyscallName names the calls that the plugins take, by architecture (AUDIT_ARCH_*), number, and first argument:
	// where a number stands for many calls, that says which one.
	SyscallName func(arch uint32, nr int32, first uint64) (name string, taken bool)
	// Released is called when neither the broker nor a container holds the generation any more.
	Released func()

	holders atomic.Int64

	mu     sync.Mutex
	routed []Binding // what routes are for
	routes routes
}

// Assignment is what one container gets of a generation.
type Assignment struct {
	Bindings []Binding                // in the order in which the plugins are asked; containers may share it
	Explain  func() *policy.Effective // why, for an operator; may be nil
}

// Binding is one plugin with a container's settings, and what counts for its calls.
type Binding struct {
	Plugin    *launcher.Plugin
	Settings  string        // JSON object with every setting
	Fallback  string        // the same, for a plugin that refuses Settings; empty: none
	Deadline  time.Duration // for one notification
	OnFailure *wire.Verdict // what the caller gets when the plugin fails
	Revoked   bool          // the plugin is not asked: the operator has taken it from the container, or Withheld
	Withheld  bool          // the plugin is not asked, since the container has got a policy without it
}

// silence is why the plugin of a revoked binding is not asked.
func (b *Binding) silence() error {
	if b.Withheld {
		return errWithheld
	}
	return errRevoked
}

// Limits are for each container.
type Limits struct {
	MaxInflight int     // calls being handled at once; more wait in the kernel
	Rate        float64 // notifications per second; 0: no limit
	Burst       int     // notifications at once above the rate
}

func (g *Generation) assign(c *container.Container) Assignment {
	if g.Assign == nil {
		return Assignment{Bindings: g.Bindings}
	}
	return g.Assign(c)
}

// routesOf returns the routes to the plugins of the bindings. Most containers have the same bindings: they share the
// routes.
func (g *Generation) routesOf(bindings []Binding) routes {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.routes == nil || !slices.Equal(g.routed, bindings) {
		g.routed, g.routes = bindings, newRoutes(bindings)
	}
	return g.routes
}

func (g *Generation) hold() *Generation {
	g.holders.Add(1)
	return g
}

func (g *Generation) release() {
	if g.holders.Add(-1) == 0 && g.Released != nil {
		g.Released()
	}
}
