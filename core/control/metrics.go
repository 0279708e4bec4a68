package control

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
)

const metricsPath = "/v1/metrics"

func (s Source) answerMetrics(w http.ResponseWriter, _ *http.Request) {
	var text bytes.Buffer
	if err := s.Metrics(&text); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write(text.Bytes()) // fails only when the peer is gone
}

// CopyMetrics asks the daemon whose admin socket is at path for its metrics, and writes them.
func CopyMetrics(ctx context.Context, path string, to io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, clientTimeout, errNoAnswer)
	defer cancel()
	response, err := request(ctx, path, http.MethodGet, metricsPath, nil)
	if err != nil {
		return fmt.Errorf("asking the daemon on %q: %w", path, err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(to, io.LimitReader(response.Body, maxAnswer)); err != nil {
		return fmt.Errorf("metrics of the daemon on %q: %w", path, err)
	}
	return nil
}
