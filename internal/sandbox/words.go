package sandbox

import (
	"strings"
	"sync"
)

// lastWords keep the end of what a process writes to its standard error.
type lastWords struct {
	mu   sync.Mutex
	text []byte
}

// maxWords bounds what is kept, in bytes: an error that a plugin's main function prints.
const maxWords = 1024

// Write implements io.Writer.
func (w *lastWords) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text...)
	if more := len(w.text) - maxWords; more > 0 {
		w.text = append(w.text[:0], w.text[more:]...)
	}
	return len(text), nil
}

func (w *lastWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.TrimSpace(strings.ToValidUTF8(string(w.text), "?"))
}
