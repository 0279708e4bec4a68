package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/policy/config"
)

const (
	reloadPath  = "/v1/reload"
	upgradePath = "/v1/upgrade"
	runningKey  = "running"

	// orderTimeout bounds a reload, and the checks before an upgrade: plugins are started for both.
	orderTimeout = 2 * time.Minute
)

// Orders are what an operator asks the daemon to do.
type Orders struct {
	// Reload reads the config again, and gives it to the running containers too, if running. With problems, or an
	// error, the former one stays.
	Reload func(ctx context.Context, running bool) (*Reloaded, error)
	// CheckUpgrade checks the program that is at the daemon's path now. The error says why the daemon does not end for
	// it; else End is called when the operator has been told.
	CheckUpgrade func(context.Context) (*Upgrade, error)
	End          func()
}

// Reloaded is what came of a reload.
type Reloaded struct {
	Problems config.Problems `json:"problems"`          // none: the config is in force
	Changes  []string        `json:"changes,omitempty"` // a line for each thing that is different from before
	// Containers are the running ones that were to get the policy, with what came of it.
	Containers []broker.Applied `json:"containers,omitempty"`
}

// Upgrade is under way.
type Upgrade struct {
	PID     int    `json:"pid"`     // of the daemon that ends
	Program string `json:"program"` // that its manager starts
}

func (o Orders) register(routes *http.ServeMux) {
	routes.HandleFunc("POST "+reloadPath, func(w http.ResponseWriter, r *http.Request) {
		obey(w, r, func(ctx context.Context) (any, error) { return o.Reload(ctx, r.URL.Query().Has(runningKey)) })
	})
	routes.HandleFunc("POST "+upgradePath, func(w http.ResponseWriter, r *http.Request) {
		if obey(w, r, func(ctx context.Context) (any, error) { return o.CheckUpgrade(ctx) }) {
			http.NewResponseController(w).Flush()
			o.End()
		}
	})
}

// obey answers with what came of an order, which goes on when its peer is gone, and reports whether it was carried out.
func obey(w http.ResponseWriter, r *http.Request, order func(context.Context) (any, error)) bool {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(orderTimeout + peerTimeout))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), orderTimeout)
	defer cancel()
	done, err := order(ctx)
	if err != nil {
		reason := err.Error()
		http.Error(w, reason[:min(len(reason), maxReason)], http.StatusServiceUnavailable)
		return false
	}
	answer(w, done)
	return true
}

// Reload has the daemon whose admin socket is at path read its config again, and give it to the running containers too,
// if running. It waits for what comes of it.
func Reload(ctx context.Context, path string, running bool) (*Reloaded, error) {
	resource, done := reloadPath, &Reloaded{}
	if running {
		resource += "?" + runningKey
	}
	if err := order(ctx, path, resource, done); err != nil {
		return nil, err
	}
	return done, nil
}

// StartUpgrade has the daemon whose admin socket is at path end for the program that is at its path now.
func StartUpgrade(ctx context.Context, path string) (*Upgrade, error) {
	started := &Upgrade{}
	if err := order(ctx, path, upgradePath, started); err != nil {
		return nil, err
	}
	return started, nil
}

func order(ctx context.Context, path, resource string, answer any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, orderTimeout, errors.New("the daemon takes too long"))
	defer cancel()
	if err := reach(ctx, path); err != nil {
		return fmt.Errorf("asking the daemon on %q: %w", path, err)
	}
	if err := ask(ctx, path, http.MethodPost, resource, nil, answer); err != nil {
		return fmt.Errorf("asking the daemon on %q: %w", path, err)
	}
	return nil
}
