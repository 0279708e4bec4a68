package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// Bounds of what a peer can have of the daemon. Anybody who reaches the address is one.
const (
	maxConnections = 8
	maxScrapes     = 2 // at once
	maxHeader      = 8 << 10

	headerTimeout = 5 * time.Second
	scrapeTimeout = 8 * time.Second // below Prometheus's own, which is 10 s by default
	peerTimeout   = 15 * time.Second
	idleTimeout   = 30 * time.Second
	closeTimeout  = time.Second
)

// Server serves /metrics.
type Server struct {
	listener net.Listener
	http     *http.Server
}

// Listen binds the address, an IP address and a port.
func Listen(address string) (*Server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("[broker] metrics: %w: want an address of this host with a free port, or \"\" for none", err)
	}
	return &Server{
		listener: netutil.LimitListener(listener, maxConnections),
		http: &http.Server{
			ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: peerTimeout, IdleTimeout: idleTimeout,
			MaxHeaderBytes: maxHeader,
		},
	}, nil
}

// Serve serves the metrics until Close, and returns nil then.
func (s *Server) Serve(m *Metrics) error {
	routes := http.NewServeMux()
	routes.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout, DisableCompression: true,
	}))
	s.http.Handler = routes
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("[broker] metrics: %w", err)
	}
	return nil
}

// Close waits a moment for scrapes under way. That of a nil Server does nothing, nor does a second call.
func (s *Server) Close() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		s.http.Close()
	}
	s.listener.Close() // which Serve, if it was called, has closed
}
