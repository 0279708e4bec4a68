package control

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

const healthPath = "/v1/health"

// Health reports whether a daemon does its work. A container that is not served, or is quarantined, does not count.
type Health struct {
	PID      int      `json:"pid"`
	Version  string   `json:"version"`
	Healthy  bool     `json:"healthy"`
	Problems []string `json:"problems"` // a line for each: calls are not taken, or a plugin does not run
}

func (s Source) registerHealth(routes *http.ServeMux) {
	routes.HandleFunc("GET "+healthPath, func(w http.ResponseWriter, r *http.Request) { answer(w, s.Health(r.Context())) })
}

// GetHealth asks the daemon whose admin socket is at path, which has this time to answer.
func GetHealth(ctx context.Context, path string, timeout time.Duration) (*Health, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errNoAnswer)
	defer cancel()
	health := &Health{}
	if err := get(ctx, path, healthPath, health); err != nil {
		return nil, fmt.Errorf("asking the daemon on %q: %w", path, err)
	}
	return health, nil
}
