package control

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestHealthEnds has the server finish while the daemon waits for a plugin: the request is answered, and ends.
func TestHealthEnds(t *testing.T) {
	asked := make(chan struct{})
	path, end := start(t, Source{Health: func(ctx context.Context) *Health {
		close(asked)
		<-ctx.Done()
		return &Health{PID: 7}
	}})
	ended := make(chan error, 1)
	go func() {
		<-asked
		ended <- end()
	}()
	h, err := GetHealth(t.Context(), path, time.Minute)
	if err = errors.Join(err, <-ended); err != nil || h.PID != 7 {
		t.Errorf("got %+v, %v", h, err)
	}
}
