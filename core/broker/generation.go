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

// Policy is what containers get: plugins with their settings, in the order in which they are asked, and limits. It is
// counted: the broker uses it for new containers, and each container that it began with.
type Policy struct {
	Uses   []Use
	Limits Limits
	// Choose says what a container gets; nil: Uses, and nothing to explain. It is called once for each, concurrently.
	Choose func(*container.Container) Choice
	// SyscallName names the calls that the plugins take, by architecture (AUDIT_ARCH_*) and number.
	SyscallName func(arch uint32, nr int32) (name string, taken bool)
	// Released is called when nothing uses the policy any more.
	Released func()

	refs atomic.Int64

	mu     sync.Mutex
	routed []Use // what routes are for
	routes routes
}

// Choice is what one container gets of a policy.
type Choice struct {
	Uses    []Use                    // in the order in which the plugins are asked; it may be shared
	Explain func() *policy.Effective // why, for an operator; may be nil
}

func (p *Policy) choose(c *container.Container) Choice {
	if p.Choose == nil {
		return Choice{Uses: p.Uses}
	}
	return p.Choose(c)
}

// Use is a plugin with its settings.
type Use struct {
	Plugin    *launcher.Plugin
	Settings  string        // JSON object with every setting
	Fallback  string        // the same, for a plugin that refuses Settings; empty: none
	Deadline  time.Duration // for one notification
	OnFailure *wire.Verdict // what the caller gets when the plugin fails
}

// Limits are for each container.
type Limits struct {
	MaxInflight int     // calls being handled at once; more wait in the kernel
	Rate        float64 // notifications per second; 0: no limit
	Burst       int     // notifications at once above the rate
}

// routes are those of these uses. Most containers have the same, which is then there once.
func (p *Policy) routesOf(uses []Use) routes {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.routes == nil || !slices.Equal(p.routed, uses) {
		p.routed, p.routes = uses, newRoutes(uses)
	}
	return p.routes
}

func (p *Policy) hold() *Policy {
	p.refs.Add(1)
	return p
}

func (p *Policy) release() {
	if p.refs.Add(-1) == 0 && p.Released != nil {
		p.Released()
	}
}
