package control

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/record"
)

const containersPath = "/v1/containers"

// Containers is all that the daemon knows of the containers that somebody means.
type Containers struct {
	Attached []broker.ContainerFacts `json:"attached"`
	Lost     []broker.LostContainer  `json:"lost,omitempty"`
	Plain    []record.Plain          `json:"plain,omitempty"`
}

func (s Source) registerContainers(routes *http.ServeMux) {
	routes.HandleFunc("GET "+containersPath, func(w http.ResponseWriter, r *http.Request) {
		answer(w, s.Containers(r.URL.Query().Get("who")))
	})
}

// GetContainers asks the daemon whose admin socket is at path about the containers with this ID or name, or else those
// whose IDs begin so.
func GetContainers(ctx context.Context, path, who string) (*Containers, error) {
	found := &Containers{}
	if err := get(ctx, path, containersPath+"?who="+url.QueryEscape(who), found); err != nil {
		return nil, fmt.Errorf("asking the daemon on %q: %w", path, err)
	}
	return found, nil
}
