// Package control is the admin socket: HTTP with JSON on a Unix socket that only its owner can connect to.
//
//	GET /v1/status          a [Status]
//	GET /v1/trace           [TracedCall] after [TracedCall]; container, syscall, plugin and outcome say which
//	GET /v1/why?who=WHO     a list of [why.Report]
//	GET /v1/metrics         metrics in the text format of Prometheus
//	GET /v1/containers?who=WHO   the [Containers] with this ID or name
//	GET /v1/health          a [Health]
//	GET /v1/policy?id=ID    a list of [broker.ContainerPolicy]: see [broker.Broker.Policies]
//	POST /v1/interception   a [policy.Description]; an [Interception]
//	POST /v1/reload         a [Reloaded]; with ?running for the containers that run, too
//	POST /v1/upgrade        an [Upgrade]
//	POST /v1/revoke?id=ID&plugin=NAME   a [Revocation]
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/core/record"
	"github.com/intercede/intercede/core/socket"
	"github.com/intercede/intercede/core/why"
)

const (
	statusPath       = "/v1/status"
	policyPath       = "/v1/policy"
	interceptionPath = "/v1/interception"

	// maxReason bounds why the daemon refuses something, in bytes.
	maxReason = 4 << 10
	// maxAnswer bounds an answer, in bytes, far above the status of 10,000 containers.
	maxAnswer = 64 << 20

	peerTimeout   = 10 * time.Second // for a peer to send its request, and to receive the answer
	closeTimeout  = time.Second
	clientTimeout = 10 * time.Second
)

// Status is the state of a daemon.
type Status struct {
	PID        int                      `json:"pid"`
	Started    time.Time                `json:"started"`
	Socket     string                   `json:"socket"`               // for OCI runtimes
	LXCSocket  string                   `json:"lxc_socket,omitempty"` // for LXC's monitors
	Plugins    []launcher.Status        `json:"plugins"`
	Containers []broker.ContainerStatus `json:"containers"` // the oldest first
	Lost       []broker.LostContainer   `json:"lost,omitempty"`
	Plain      []record.Plain           `json:"plain,omitempty"` // containers that were created without interception
	Version    string                   `json:"version"`         // of the daemon
	At         time.Time                `json:"at"`              // when all of this was so
	Healthy    bool                     `json:"healthy"`         // there are no Problems
	Problems   []string                 `json:"problems"`        // see Health
	Config     Config                   `json:"config"`
	Reload     *LastReload              `json:"last_reload,omitempty"` // nil: there was none
	// PluginCalls are by name, and count on when a reload replaces a plugin.
	PluginCalls []broker.PluginCalls `json:"plugin_calls"`
	// Bounds are, for each class of durations but the last, the seconds below which its calls have taken.
	Bounds []float64 `json:"duration_bounds_s"`
}

// Config is the config that containers get that are attached from now on.
type Config struct {
	Path       string `json:"path"`
	SHA256     string `json:"sha256"` // of the file as it was read, in hex
	Generation uint64 `json:"generation"`
}

// LastReload is what came of the last order to read the config again, or signal.
type LastReload struct {
	At    time.Time `json:"at"`
	OK    bool      `json:"ok"`
	Error string    `json:"error,omitempty"` // why the former config stayed
}

// Server answers on the admin socket.
type Server struct {
	socket *socket.Socket
	http   *http.Server
	finish func() // ends the contexts of the requests
}

// Source has the answers.
type Source struct {
	Orders
	Status       func() *Status
	Policies     func(id string) []broker.ContainerPolicy
	Revoke       func(id, plugin string) ([]broker.Revoked, error)
	Watch        Watch
	Why          func(who string) ([]why.Report, error)
	Metrics      func(io.Writer) error // the error says why there are none
	Containers   func(who string) *Containers
	Health       func(context.Context) *Health
	Interception func(policy.Description) (*Interception, error) // the error says why there must be no such container now
}

// Listen binds the socket at path; see [socket.Listen] for who owns it and for the errors.
func Listen(path string, kept *socket.Kept) (*Server, error) {
	s, err := socket.Listen(path, kept)
	if err != nil {
		return nil, fmt.Errorf("the admin socket: %w", err)
	}
	ctx, finish := context.WithCancel(context.Background())
	return &Server{
		socket: s, finish: finish,
		http: &http.Server{
			ReadTimeout: peerTimeout, WriteTimeout: peerTimeout, ConnContext: withPeer,
			BaseContext: func(net.Listener) context.Context { return ctx },
		},
	}, nil
}

func (s Source) routes() *http.ServeMux {
	routes := http.NewServeMux()
	routes.HandleFunc("GET "+statusPath, func(w http.ResponseWriter, _ *http.Request) { answer(w, s.Status()) })
	routes.HandleFunc("GET "+policyPath, func(w http.ResponseWriter, r *http.Request) {
		answer(w, s.Policies(r.URL.Query().Get("id")))
	})
	routes.HandleFunc("GET "+whyPath, s.answerWhy)
	routes.HandleFunc("GET "+metricsPath, s.answerMetrics)
	s.registerContainers(routes)
	s.registerHealth(routes)
	routes.HandleFunc("POST "+interceptionPath, s.answerInterception)
	s.Orders.register(routes)
	s.registerRevoke(routes)
	return routes
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(value) // fails only when the peer is gone
}

// Serve answers from source until Close, and returns nil then.
func (s *Server) Serve(source Source) error {
	routes := source.routes()
	routes.HandleFunc("GET "+tracePath, answerTrace(source.Watch))
	s.http.Handler = routes
	if err := s.http.Serve(s.socket.Listener()); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("the admin socket %q: %w", s.socket.Path(), err)
	}
	return nil
}

// Finish waits a moment for the requests under way, and takes no others. Those that wait for something end.
func (s *Server) Finish() {
	s.finish()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		s.http.Close()
	}
}

// Close waits a moment for the requests under way, and removes the socket.
func (s *Server) Close() error {
	s.Finish()
	err := s.socket.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil // Shutdown has closed the listener
	}
	return err
}

// GetStatus asks the daemon whose admin socket is at path.
func GetStatus(ctx context.Context, path string) (*Status, error) {
	status := &Status{}
	if err := get(ctx, path, statusPath, status); err != nil {
		return nil, fmt.Errorf("asking the daemon on %q: %w", path, err)
	}
	return status, nil
}

// GetPolicies asks the daemon whose admin socket is at path for what the attached containers with this ID got, or those
// whose IDs begin so.
func GetPolicies(ctx context.Context, path, id string) ([]broker.ContainerPolicy, error) {
	var policies []broker.ContainerPolicy
	if err := get(ctx, path, policyPath+"?id="+url.QueryEscape(id), &policies); err != nil {
		return nil, fmt.Errorf("asking the daemon on %q: %w", path, err)
	}
	return policies, nil
}

// errNoAnswer means that the socket is there, and its backlog: who keeps it may be about to start a daemon.
var errNoAnswer = errors.New("it does not answer in time: if it is being started, try again")

func get(ctx context.Context, path, resource string, answer any) error {
	return ask(ctx, path, http.MethodGet, resource, nil, answer)
}

func ask(ctx context.Context, path, method, resource string, question io.Reader, answer any) error {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, clientTimeout, errNoAnswer)
		defer cancel()
	}
	response, err := request(ctx, path, method, resource, question)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	err = json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(answer)
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("what has the socket %w: %w", errForeign, err)
	}
	return nil
}

// request sends a request, and returns the response to one that the daemon has taken.
func request(ctx context.Context, path, method, resource string, question io.Reader) (*http.Response, error) {
	c := &caller{path: path}
	request, err := http.NewRequestWithContext(ctx, method, "http://intercede"+resource, question)
	if err != nil {
		return nil, err
	}
	response, err := c.client().Do(request)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusServiceUnavailable {
		why, _ := io.ReadAll(io.LimitReader(response.Body, maxReason))
		return nil, errors.New(strings.TrimSpace(string(why)))
	}
	return nil, fmt.Errorf("%s %w: it answered %s", c.owner(), errForeign, response.Status)
}
