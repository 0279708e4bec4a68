package control

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/intercede/intercede/core/why"
)

const whyPath = "/v1/why"

func (s Source) answerWhy(w http.ResponseWriter, r *http.Request) {
	reports, err := s.Why(r.URL.Query().Get("who"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer(w, reports)
}

// GetWhy asks the daemon whose admin socket is at path how the calls of who are served: the PID of a process, or the ID
// or name of a container, or how IDs begin. No reports: there is no such container.
func GetWhy(ctx context.Context, path, who string) ([]why.Report, error) {
	var reports []why.Report
	if err := get(ctx, path, whyPath+"?who="+url.QueryEscape(who), &reports); err != nil {
		return nil, fmt.Errorf("asking the daemon on %q: %w", path, err)
	}
	return reports, nil
}
