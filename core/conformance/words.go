package conformance

import (
	"strings"
	"sync"

	"github.com/rs/zerolog"
)

// words remembers what was logged of the plugin.
type words struct {
	mu   sync.Mutex
	said []string
}

// Run implements zerolog.Hook.
func (w *words) Run(_ *zerolog.Event, _ zerolog.Level, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, message)
}

// has reports whether a message was logged that has the text.
func (w *words) has(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, message := range w.said {
		if strings.Contains(message, text) {
			return true
		}
	}
	return false
}
