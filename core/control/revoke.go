package control

import (
	"context"
	"net/http"
	"net/url"

	"github.com/intercede/intercede/core/broker"
)

const revokePath = "/v1/revoke"

// Revocation is what came of an order to take plugins from a container.
type Revocation struct {
	Revoked []broker.Revoked `json:"revoked"`
}

func (s Source) registerRevoke(routes *http.ServeMux) {
	routes.HandleFunc("POST "+revokePath, func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		obey(w, r, func(context.Context) (any, error) {
			revoked, err := s.Revoke(query.Get("id"), query.Get("plugin"))
			return Revocation{revoked}, err
		})
	})
}

// Revoke has the daemon whose admin socket is at path take a plugin, or all of them (the empty name), from a container.
func Revoke(ctx context.Context, path, id, plugin string) ([]broker.Revoked, error) {
	var done Revocation
	err := order(ctx, path, revokePath+"?"+url.Values{"id": {id}, "plugin": {plugin}}.Encode(), &done)
	return done.Revoked, err
}
